//! The program `trunkline`; what it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    trunkline_cli::main()
}
