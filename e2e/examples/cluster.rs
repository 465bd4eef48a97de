//! Starts a cluster on real stores and keeps it until Ctrl-C, to try things on and to measure:
//! `E2E_PROGRAMS=target/release cargo run -p e2e --example cluster`, with the class of durability (or `embedded`:
//! a fixed list of peers and embedded stores, in plain text), the number of rooms, and a file with more configuration as arguments.

use e2e::{Backing, Layout, Shape, Stack, Tuning};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let class = arguments.next().unwrap_or_else(|| "fast".to_owned());
    let rooms = arguments.next().map_or(Ok(2), |rooms| rooms.parse())?;
    let more = arguments.next().map_or(Ok(String::new()), std::fs::read_to_string)?;
    let tuning = match class.as_str() {
        "embedded" => {
            let layout = Layout { rooms, backing: Backing::Embedded, ..Layout::default() };
            Tuning { layout, ..Tuning::toml(&more) }
        }
        class => {
            let layout = Layout { rooms, ..Layout::default() };
            Tuning { layout, ..Tuning::toml(&format!("[saver]\ndurability = \"{class}\"\n{more}")) }
        }
    };
    let mut stack = Stack::start(Shape::Cluster, tuning).await?;
    let addresses = stack.addresses();
    let centers: Vec<String> = addresses.api.iter().map(|url| format!("--center {url}")).collect();
    println!("{} --dispatcher {} --key {}", centers.join(" "), addresses.route, addresses.key);
    tokio::signal::ctrl_c().await?;
    stack.drain().await
}
