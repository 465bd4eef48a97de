//! A configuration file and variables: what is wrong with them is told in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use service::config::{Config, ConfigError};

fn section<T: DeserializeOwned>(config: &mut Config, name: &str) -> Result<(), ConfigError> {
    config.section::<T>(name).map(drop)
}

fn read(text: &str, env: Vec<(&str, &str)>) -> Result<(), ConfigError> {
    let env = env.into_iter().map(|(name, value)| (format!("LONGWIRE_{name}"), value.to_owned()));
    let mut config = Config::parse(text, "x.toml", env)?;
    section::<service::NodeSettings>(&mut config, "node")?;
    section::<service::DiscoverySettings>(&mut config, "discovery")?;
    section::<room::Config>(&mut config, "room")?;
    section::<center::Config>(&mut config, "center")?;
    section::<dispatcher::Config>(&mut config, "dispatcher")?;
    config.finish()
}

fuzz_target!(|input: (Vec<(&str, &str)>, &str)| {
    let (env, text) = input;
    if let Err(error) = read(text, env) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
});
