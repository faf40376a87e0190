//! `mainstay serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{ConfigArgs, Exit};
use crate::app::{Options, Service};

/// Serve the gRPC API until told to stop.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM or Ctrl-C lets calls end within the drain time; a second one stops at once."
)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address of the data plane (PipelineService), over the configuration's word.
    #[arg(long, value_name = "IP:PORT")]
    data_address: Option<SocketAddr>,
    /// Address of the control plane (PolicyService, OperationsService).
    #[arg(long, value_name = "IP:PORT")]
    control_address: Option<SocketAddr>,
    /// Script of the simulated provider, with --rehearse.
    #[arg(long, value_name = "FILE", requires = "rehearse")]
    script: Option<PathBuf>,
    /// Write the data plane's address to this file once it serves; useful with port 0.
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    if args.config.config.is_none() && !args.config.rehearse {
        eprintln!(
            "error: say what to serve: --config FILE, or --rehearse for the embedded example"
        );
        return Ok(Exit::Wrong);
    }
    let options = Options {
        data_address: args.data_address,
        control_address: args.control_address,
        script: args.script,
        address_file: args.address_file,
        ..args.config.options()
    };
    let service = Service::start(&options).await?;
    eprintln!(
        "mainstay serves {} (data plane) and {} (control plane)",
        service.data_address, service.control_address
    );
    if let Some(simulator) = &service.simulator {
        eprintln!("the simulated provider answers at {}", simulator.addr());
    }
    asked_to_stop().await?;
    tokio::select! {
        () = service.stop() => Ok(Exit::Done),
        second = asked_to_stop() => second.map(|()| Exit::Unavailable),
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) async fn asked_to_stop() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupt = tokio::signal::ctrl_c() => Ok(interrupt?),
        }
    }
    #[cfg(not(unix))]
    {
        Ok(tokio::signal::ctrl_c().await?)
    }
}
