//! Starts a cluster on real stores and keeps it until Ctrl-C, to try things on and to measure:
//! `E2E_PROGRAMS=target/release cargo run -p e2e --example cluster`, with the class of durability and the number of rooms
//! as arguments.

use e2e::{Layout, Shape, Stack, Tuning};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let class = std::env::args().nth(1).unwrap_or_else(|| "fast".to_owned());
    let rooms = std::env::args().nth(2).map_or(Ok(2), |rooms| rooms.parse())?;
    let layout = Layout { rooms, ..Layout::default() };
    let tuning = Tuning { layout, ..Tuning::toml(&format!("[saver]\ndurability = \"{class}\"\n")) };
    let mut stack = Stack::start(Shape::Cluster, tuning).await?;
    let addresses = stack.addresses();
    let centers: Vec<String> = addresses.api.iter().map(|url| format!("--center {url}")).collect();
    println!("{} --dispatcher {} --key {}", centers.join(" "), addresses.route, addresses.key);
    tokio::signal::ctrl_c().await?;
    stack.drain().await
}
