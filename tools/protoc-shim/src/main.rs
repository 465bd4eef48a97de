//! As much of protoc as `prost-build` asks for: `[--version] [--include_imports] [--include_source_info] -o OUT -I DIR …
//! FILE …` writes the descriptors of the files.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut out, mut includes, mut files) = (None, Vec::<PathBuf>::new(), Vec::<PathBuf>::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--version" => {
                println!("libprotoc 33.0");
                return Ok(());
            }
            "-o" => out = Some(PathBuf::from(value()?)),
            "-I" => includes.push(value()?.into()),
            "--include_imports" | "--include_source_info" | "--experimental_allow_proto3_optional" => {}
            file if !file.starts_with('-') => files.push(file.into()),
            other => return Err(format!("{other} is not supported: install protoc").into()),
        }
    }
    let descriptors = protox::compile(files, includes)?;
    fs::write(out.ok_or("-o is missing")?, descriptors.encode_to_vec())?;
    Ok(())
}
