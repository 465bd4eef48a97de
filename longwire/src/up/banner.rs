//! What `up` prints when it is up: where everything is, and what to try.

use std::io::{self, Write as _};

use super::Up;

/// Says that it ends. Nobody may be reading any more, and that is no reason to end badly.
pub(super) fn draining() {
    let _ = writeln!(io::stdout(), "Draining…");
}

/// To standard output; logging goes to standard error.
pub(super) fn print(up: &Up) {
    let program = std::env::args().next().unwrap_or_else(|| "longwire".to_owned());
    let data = up.settings.data.display();
    let (api, route, admin) = (up.api(), up.route(), up.admin());
    let rooms = up.rooms().join(" ");
    let demo = up.demo();
    // Options are printed only where the defaults do not say the same, so that the commands stay short.
    let mut common = format!("--app {}", demo.app);
    if up.settings.data.as_os_str() != "longwire-data" {
        common += &format!(" --data {data}");
    }
    if api.port() != 7800 || !api.ip().is_loopback() {
        common += &format!(" --api http://{api}");
    }
    let mut listen = common.clone();
    if route.port() != 7700 || !route.ip().is_loopback() {
        listen += &format!(" --route http://{route}");
    }
    // As above.
    let _ = writeln!(
        io::stdout(),
        "Longwire is up. Everything it keeps is in {data}; Ctrl-C drains and ends it.

  devices connect to    {rooms}
  devices ask for it    http://{route}/v1/route
  backends call         http://{api}  (HTTP and gRPC; try it at /docs, OpenAPI at /openapi.json)
  operators look at     http://{admin}  (/healthz /readyz /metrics /log /debug/pprof/profile)
  the demo app's key    {key_file}

Listen, push, and push with curl:

  {program} listen {listen} --uid alice
  {program} push {common} --uid alice 'hello'
  curl -s http://{api}/v1/push -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{\"uid\":\"alice\",\"payload\":\"hello\"}}'
",
        key_file = demo.key_file.display(),
        key = demo.key,
    );
}
