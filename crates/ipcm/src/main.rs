// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program `ipcm`; everything is in the library of the same name.

fn main() -> std::process::ExitCode {
    ipcm::cli::main()
}
