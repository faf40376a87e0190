fn main() {
    let mut floor = protox::Compiler::new(["../proto"]).unwrap();
    floor.open_files(["floor.proto"]).unwrap();
    let mut mainstay = protox::Compiler::new(["../../../proto"]).unwrap();
    mainstay.include_imports(true).open_files(["mainstay/v1/pipeline_service.proto"]).unwrap();
    for fds in [floor.file_descriptor_set(), mainstay.file_descriptor_set()] {
        tonic_prost_build::configure().build_server(false).compile_fds(fds).unwrap();
    }
}
