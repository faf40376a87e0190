fn main() {
    let mut floor = protox::Compiler::new(["../proto"]).unwrap();
    floor.open_files(["floor.proto"]).unwrap();
    tonic_prost_build::configure().build_client(false).compile_fds(floor.file_descriptor_set()).unwrap();
}
