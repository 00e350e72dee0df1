//! What a command on the operator's side needs: an address and a way in, not a complete configuration.
//!
//! A status query or a stop must not fail because some limit in the file is misspelt; so only the settings that are
//! used are judged here. `data_dir` goes further: `stop --local` must find the folder when nothing else is in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::Reader;
use crate::error::ConfigErrors;
use crate::layers::{Environ, gather};
use crate::settings::Setting;
use crate::values::{self, Environment};

/// The settings of a client command.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Which profile holds.
    pub environment: Environment,
    /// Where the engine listens.
    pub api_host: IpAddr,
    /// Its port.
    pub api_port: u16,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// The password of `admin`.
    pub admin_password: Option<SecretString>,
}

impl ClientConfig {
    /// Reads what a client command needs; faults of other settings do not matter.
    pub fn read(environ: &Environ) -> Result<ClientConfig, ConfigErrors> {
        const USED: &[&str] =
            &["ENVIRONMENT", "API_HOST", "API_PORT", "NEXUS_DATA_DIR", "ADMIN_PASSWORD", "ADMIN_PASSWORD_FILE"];
        let mut reader = Reader::new(gather(environ));
        let config = ClientConfig {
            environment: reader.read("ENVIRONMENT", values::environment),
            api_host: reader.read("API_HOST", values::address),
            api_port: reader.read("API_PORT", values::whole),
            data_dir: reader.read("NEXUS_DATA_DIR", values::path),
            admin_password: reader.secret("ADMIN_PASSWORD", values::text),
        };
        let mut errors = reader.layers.errors;
        errors.retain(|error| USED.contains(&error.name.as_str()) || error.name == "NEXUS_CONFIG");
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }

    /// The address by which this machine reaches the engine: a wildcard is reached through the loopback.
    pub fn url(&self) -> String {
        let host = match self.api_host {
            IpAddr::V4(host) if host.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(host) if host.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            host => host,
        };
        format!("http://{}", std::net::SocketAddr::new(host, self.api_port))
    }
}

/// The data folder alone. The variable is enough: then neither the file nor any other setting is looked at.
pub fn data_dir(environ: &Environ) -> Result<PathBuf, ConfigErrors> {
    let named = environ.get("NEXUS_DATA_DIR").zip(Setting::find("NEXUS_DATA_DIR"));
    if let Some(path) = named.and_then(|(text, setting)| values::path(text, setting.kind).ok()) {
        return Ok(path);
    }
    let mut reader = Reader::new(gather(environ));
    let path = reader.read("NEXUS_DATA_DIR", values::path);
    let mut errors = reader.layers.errors;
    errors.retain(|error| ["NEXUS_DATA_DIR", "NEXUS_CONFIG"].contains(&error.name.as_str()));
    if errors.is_empty() { Ok(path) } else { Err(ConfigErrors(errors)) }
}
