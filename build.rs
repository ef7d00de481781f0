//! Lets `train-export` find the libtorch that it was built with, without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let (Some(_), Ok(libtorch)) = (std::env::var_os("CARGO_FEATURE_TRAIN"), std::env::var("LIBTORCH")) {
        println!("cargo:rustc-link-arg-bin=train-export=-Wl,-rpath,{libtorch}/lib");
    }
}
