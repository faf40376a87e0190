//! `mainstay simulate`

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::{Exit, serve};
use crate::simulate::{Script, Simulator};
use crate::tasks::Tasks;

/// Run the simulated provider by itself.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Script; the rehearsal's if absent.
    #[arg(value_name = "SCRIPT")]
    script: Option<PathBuf>,
    /// Address; only loopback is meant.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8089")]
    address: SocketAddr,
    /// Print what was asked, as JSON, at the end.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: SimulateArgs) -> anyhow::Result<Exit> {
    if !args.address.ip().is_loopback() {
        eprintln!("error: the simulated provider serves loopback addresses only");
        return Ok(Exit::Wrong);
    }
    let (text, name) = match &args.script {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            (text, path.display().to_string())
        }
        None => (crate::app::rehearsal_script().to_owned(), "built-in rehearsal script".to_owned()),
    };
    let script = match Script::parse(&text, &name) {
        Ok(script) => script,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(Exit::Wrong);
        }
    };
    let tasks = Tasks::new();
    let simulator = Simulator::bind(script, args.address, &tasks)
        .await
        .with_context(|| format!("cannot listen on {}", args.address))?;
    eprintln!("the simulated provider answers at http://{}/v1", simulator.addr());
    serve::asked_to_stop().await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&simulator.calls())?);
    }
    simulator.stop().await;
    Ok(Exit::Done)
}
