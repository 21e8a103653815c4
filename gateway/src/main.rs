//! `headwater`: the gateway and its tools.

fn main() -> std::process::ExitCode {
    headwater::cli::main()
}
