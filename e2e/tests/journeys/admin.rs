//! The admin port of every process.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Stack, TestDevice};
use prost::Message as _;

crate::journeys! { every_process_has_an_admin_port }

/// As much of the profile format as proves that it is one.
#[derive(Clone, PartialEq, prost::Message)]
struct Profile {
    #[prost(bytes = "vec", repeated, tag = "1")]
    sample_type: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    sample: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

async fn every_process_has_an_admin_port(stack: &mut Stack) -> anyhow::Result<()> {
    let http = e2e::api::http();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    stack.api().push("alice", "something to count").await?;
    alice.expect_text("something to count").await?;
    let mut all_metrics = String::new();
    for admin in &stack.addresses().admin {
        let get = async |path: &str| {
            let response = http.get(format!("http://{admin}{path}")).send().await?;
            anyhow::Ok((response.status().as_u16(), response.text().await?))
        };
        ensure!(get("/healthz").await? == (200, "ok\n".to_owned()), "not healthy");
        let (status, ready) = get("/readyz").await?;
        ensure!(status == 200 && ready.contains("\"ready\""), "{status} {ready}");
        let (status, text) = get("/metrics").await?;
        ensure!(status == 200 && text.ends_with("# EOF\n"), "{status} {text}");
        check_metrics(&text)?;
        all_metrics += &text;

        // The filter can be changed, and a wrong one changes nothing.
        let put = async |body: &'static str| {
            let response = http.put(format!("http://{admin}/log")).body(body).send().await?;
            anyhow::Ok(response.status().as_u16())
        };
        let (_, before) = get("/log").await?;
        ensure!(put("info,longwire=debug").await? == 200, "the filter is refused");
        ensure!(get("/log").await?.1 == "info,longwire=debug\n", "the filter is another");
        ensure!(put("info,longwire=loud").await? == 400, "a wrong filter is taken");
        ensure!(get("/log").await?.1 == "info,longwire=debug\n", "the wrong filter holds");
        let back = http.put(format!("http://{admin}/log")).body(before).send().await?;
        ensure!(back.status().is_success() || back.status() == 400, "{back:?}");
    }
    for name in ["room_", "center_", "saver_", "register_", "coordinator_", "dispatcher_"] {
        let named = |line: &str| line.starts_with(name) || line.starts_with(&format!("longwire_{name}"));
        ensure!(all_metrics.lines().any(named), "no metrics of {name}");
    }
    ensure!(!all_metrics.contains("alice"), "metrics tell of a user");
    // A profile needs work to sample, and one process is enough to take it of. On a busy machine a second may be too little.
    let admin = stack.addresses().admin[0];
    let api = stack.api();
    let mut samples = 0;
    for _ in 0..5 {
        let profile = http
            .get(format!("http://{admin}/debug/pprof/profile?seconds=1"))
            .timeout(Duration::from_secs(60))
            .send();
        let (profile, _) = tokio::join!(profile, async {
            let end = tokio::time::Instant::now() + Duration::from_secs(1);
            let mut n = 0;
            while tokio::time::Instant::now() < end {
                n += 1;
                // What becomes of the load is not the question.
                let _ = api.push(&format!("user-{n}"), "load").await;
            }
        });
        let bytes = profile?.error_for_status()?.bytes().await?;
        let profile = Profile::decode(bytes).context("the profile does not decode")?;
        ensure!(profile.sample_type.len() == 2 && profile.duration_nanos == 1_000_000_000, "{profile:?}");
        samples = profile.sample.len();
        if samples > 0 && profile.string_table.len() > 10 {
            break;
        }
    }
    ensure!(samples > 0, "empty profiles");
    let wrong = http.get(format!("http://{admin}/debug/pprof/profile?seconds=0")).send().await?;
    ensure!(wrong.status() == 400, "{wrong:?}");
    Ok(())
}

/// Every line is a comment or `name{labels} value`, and every family is described.
fn check_metrics(text: &str) -> anyhow::Result<()> {
    let mut families = vec![];
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap_or_default().to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
            value.parse::<f64>().with_context(|| format!("no number: {line}"))?;
            let name = series.split('{').next().unwrap_or_default();
            ensure!(families.iter().any(|f| name.starts_with(f.as_str())), "{name} has no TYPE");
        }
    }
    ensure!(!families.is_empty(), "no metrics at all");
    Ok(())
}
