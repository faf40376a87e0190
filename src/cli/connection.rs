//! How the commands that talk to a running service reach it: one set of flags for all.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::api::client::{self, Caller, Credentials};
use crate::config::{RawSecret, secret};

/// The token, for those who keep it in the environment. Not a flag: command lines are public on
/// the machine.
const TOKEN_VARIABLE: &str = "MAINSTAY_TOKEN";

/// What a command shows of itself to a running service.
#[derive(Debug, Clone, Default, Args)]
pub struct CallerArgs {
    /// File with the bearer token; else the environment variable MAINSTAY_TOKEN, if it is set.
    #[arg(long, help_heading = "Access", value_name = "FILE", env = "MAINSTAY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Authorities of the service's certificate, PEM; the system's if absent.
    #[arg(long, help_heading = "Access", value_name = "FILE", env = "MAINSTAY_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// Client certificate, PEM.
    #[arg(
        long,
        help_heading = "Access",
        value_name = "FILE",
        env = "MAINSTAY_TLS_CERT",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// Key of the client certificate, PEM.
    #[arg(
        long,
        help_heading = "Access",
        value_name = "FILE",
        env = "MAINSTAY_TLS_KEY",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Send the token without TLS to a service on another machine.
    #[arg(long, help_heading = "Access")]
    allow_plaintext: bool,
}

impl CallerArgs {
    /// Connects to an address.
    ///
    /// # Errors
    /// When a file cannot be read or nobody answers.
    pub async fn connect(&self, address: &str) -> anyhow::Result<Caller> {
        let token = match &self.token_file {
            Some(path) => {
                let reference = RawSecret::File(path.display().to_string());
                Some(secret::fetch(&reference).context("the token")?)
            }
            None => secret::fetch(&RawSecret::Env(TOKEN_VARIABLE.to_owned())).ok(),
        };
        let credentials = Credentials {
            token,
            tls_ca: self.tls_ca.clone(),
            tls_identity: self.tls_cert.clone().zip(self.tls_key.clone()),
            allow_plaintext: self.allow_plaintext,
        };
        Ok(client::connect_as(address, &credentials).await?)
    }
}

/// A running service's control plane, and what a command shows of itself to it.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Address of the control plane.
    #[arg(
        long,
        short = 'a',
        value_name = "HOST:PORT",
        env = "MAINSTAY_CONTROL_ADDRESS",
        default_value = "127.0.0.1:50052"
    )]
    address: String,
    #[command(flatten)]
    caller: CallerArgs,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When a file cannot be read or nobody answers.
    pub async fn open(&self) -> anyhow::Result<Caller> {
        self.caller.connect(&self.address).await
    }
}
