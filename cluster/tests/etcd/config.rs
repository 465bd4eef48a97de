//! Configuration in etcd.

use cluster::{
    Role,
    etcd::{Admin, EtcdError, Target},
};
use stores::Etcd;
use tokio::time::timeout;

use crate::harness::{PATIENCE, join, options};

#[tokio::test(flavor = "multi_thread")]
async fn configuration_has_a_history_and_one_writer_at_a_time() {
    let etcd = Etcd::start().await.unwrap();
    let (saver, _data) = join(&etcd, Role::Saver).await;
    let admin = Admin::connect(options(&etcd)).await.unwrap();
    let own = Target::Node(saver.me.id());
    assert_eq!(admin.config(Role::Saver, own).await.unwrap(), None);
    let first = admin.set_config(Role::Saver, own, "a = 1", "ann", Some(0)).await.unwrap();
    let stale = admin.set_config(Role::Saver, own, "a = 2", "bob", Some(0)).await;
    assert!(matches!(stale, Err(EtcdError::Conflict)), "{stale:?}");
    let second = admin.set_config(Role::Saver, own, "a = 2", "bob", Some(first)).await.unwrap();
    let mut texts = saver.discovery.config();
    let news = texts.wait_for(|t| t.as_ref().is_some_and(|t| t.revision == second));
    let news = timeout(PATIENCE, news).await.unwrap().unwrap().clone().unwrap();
    assert_eq!((news.own.unwrap().text.as_str(), news.default), ("a = 2", None));
    for n in 3..=53 {
        admin.set_config(Role::Saver, own, &format!("a = {n}"), "eve", None).await.unwrap();
    }
    let history = admin.history(Role::Saver, own).await.unwrap();
    assert_eq!((history.len(), history[0].number, history[49].number), (50, 53, 4));
    assert_eq!((history[0].text.as_str(), history[0].by.as_str()), ("a = 53", "eve"));
    assert!(admin.history(Role::Saver, Target::Default).await.unwrap().is_empty());
    let nodes = admin.nodes().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].id), (1, saver.me.id()));
}
