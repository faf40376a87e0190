fn main() {
    let mut mainstay = protox::Compiler::new(["../../../proto"]).unwrap();
    mainstay
        .include_imports(true)
        .open_files(["mainstay/v1/policy_service.proto"])
        .unwrap();
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(mainstay.file_descriptor_set())
        .unwrap();
}
