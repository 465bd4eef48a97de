//! The servers start, are killed and come back.

use stores::{Data, Etcd, MariaDb, Redis, RedisCluster};

#[tokio::test]
async fn redis_comes_back_with_its_data_or_without() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    redis.call(&["SET", "a", "1"]).await?;
    redis.kill().await?;
    assert!(redis.call(&["GET", "a"]).await.is_err(), "it was killed");
    redis.start_again(Data::Keep).await?;
    assert_eq!(redis.call(&["GET", "a"]).await?, "1");
    redis.kill().await?;
    redis.start_again(Data::Wipe).await?;
    assert_eq!(redis.call(&["EXISTS", "a"]).await?, "0");
    Ok(())
}

#[tokio::test]
async fn a_replica_of_redis_is_promoted() -> anyhow::Result<()> {
    let primary = Redis::start().await?;
    primary.call(&["SET", "a", "1"]).await?;
    let replica = Redis::replica_of(&primary).await?;
    primary.kill().await?;
    replica.promote().await?;
    assert_eq!(replica.call(&["GET", "a"]).await?, "1");
    replica.call(&["SET", "a", "2"]).await?;
    primary.come_back_behind(&replica).await?;
    assert!(replica.is_primary().await? && !primary.is_primary().await?);
    assert_eq!(primary.call(&["GET", "a"]).await?, "2");
    Ok(())
}

#[tokio::test]
async fn a_redis_cluster_serves_all_slots() -> anyhow::Result<()> {
    let cluster = RedisCluster::start(3).await?;
    assert_eq!(cluster.urls().len(), 3);
    let slot = cluster.nodes()[0].call(&["CLUSTER", "KEYSLOT", "{lw:a:1}"]).await?.parse::<usize>()?;
    cluster.nodes()[slot * 3 / 16_384].call(&["SET", "{lw:a:1}", "1"]).await?;
    Ok(())
}

#[tokio::test]
async fn mariadb_keeps_what_was_committed() -> anyhow::Result<()> {
    let db = MariaDb::start().await?;
    let url = db.url("longwire").await?;
    assert!(url.ends_with("/longwire"), "{url}");
    db.sql("CREATE TABLE longwire.t (a INT) ENGINE=InnoDB; INSERT INTO longwire.t VALUES (7)").await?;
    db.kill().await?;
    db.start_again().await?;
    assert_eq!(db.sql("SELECT a FROM longwire.t").await?.trim(), "7");
    Ok(())
}

#[tokio::test]
async fn etcd_elects_another_leader() -> anyhow::Result<()> {
    let etcd = Etcd::start_cluster(3, None).await?;
    let leader = etcd.leader().await?;
    etcd.member(leader).kill().await?;
    let other = etcd.member((leader + 1) % 3);
    other.ready().await?;
    etcd.member(leader).start_again(Data::Keep).await?;
    assert_eq!(etcd.endpoints().len(), 3);
    Ok(())
}

#[tokio::test]
async fn servers_die_with_the_process_that_started_them() -> anyhow::Result<()> {
    // This test started itself with the variable below: it starts a server, says its pid, and waits to be killed.
    if std::env::var_os("STORES_TEST_VICTIM").is_some() {
        let redis = Redis::start().await?;
        println!("\npid={}", redis.pid().expect("it runs"));
        std::future::pending::<()>().await;
    }
    let own = std::env::current_exe()?;
    let mut victim = tokio::process::Command::new(own)
        .args(["--exact", "servers_die_with_the_process_that_started_them", "--nocapture"])
        .env("STORES_TEST_VICTIM", "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = tokio::io::BufReader::new(victim.stdout.take().expect("it is piped"));
    let mut line = String::new();
    let pid = loop {
        line.clear();
        tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await?;
        if let Some(pid) = line.trim().strip_prefix("pid=") {
            break pid.to_owned();
        }
    };
    victim.kill().await?;
    let stat = std::path::PathBuf::from(format!("/proc/{pid}/stat"));
    // A zombie waits for whoever reaps orphans here.
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|s| !s.contains(") Z "));
    for _ in 0..500 {
        if !alive() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("redis-server {pid} outlived the test");
}
