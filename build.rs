//! Generates the gRPC code from `proto/`, without a system `protoc`.

use std::path::PathBuf;
use std::{env, error::Error, fs};

const FILES: [&str; 6] = [
    "mainstay/v1/failure.proto",
    "mainstay/v1/run.proto",
    "mainstay/v1/pipeline_service.proto",
    "mainstay/v1/policy.proto",
    "mainstay/v1/policy_service.proto",
    "mainstay/v1/operations_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    // `compile_fds` does not write the descriptor file; reflection needs it.
    fs::write(out.join("mainstay_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".mainstay.v1.ImageData")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
