//! `mainstay token`

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Exit;

/// Make a bearer token for the callers file.
#[derive(Debug, Args)]
#[command(
    after_help = "The token goes to standard output, for the caller alone; its entry in the \
callers file goes to standard error and is no secret."
)]
pub struct TokenArgs {}

/// Bits that nobody guesses.
const TOKEN_BYTES: usize = 32;

pub(super) fn run(_: &TokenArgs) -> anyhow::Result<Exit> {
    let random = Zeroizing::new(rand::random::<[u8; TOKEN_BYTES]>());
    // The prefix lets scanners for leaked secrets know what they have found.
    let token = Zeroizing::new(format!("mainstay_{}", URL_SAFE_NO_PAD.encode(random.as_slice())));
    let digest = Sha256::digest(token.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    eprintln!("tokens: [{{ sha256: {hex} }}]");
    println!("{}", token.as_str());
    Ok(Exit::Done)
}
