//! The stand-ins as a program, for tests in other languages: prints one line of JSON that says where they are, and
//! serves until its standard input ends.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use longshore_testkit::{HostileConfig, HostileRegistry, TokenConfig, TokenServer};
use serde_json::{Value, json};

#[derive(Debug, Parser)]
#[command(name = "longshore-testkit", about)]
struct Arguments {
    #[command(subcommand)]
    standin: Standin,
}

#[derive(Debug, Subcommand)]
enum Standin {
    /// A token service for registries. Prints `realm`, `service`, `issuer` and `certificate` (PEM).
    TokenServer {
        /// A file of JSON with the accounts and what they may do.
        #[arg(long)]
        config: PathBuf,
    },
    /// The hostile registry, with nothing in it and nothing to go wrong. Prints `host`.
    HostileRegistry,
}

fn main() -> io::Result<()> {
    match Arguments::parse().standin {
        Standin::TokenServer { config } => {
            let config: TokenConfig = serde_json::from_reader(File::open(config)?)?;
            let server = TokenServer::start(config)?;
            let authority = server.authority();
            until_input_ends(&json!({
                "realm": server.realm(),
                "service": authority.service(),
                "issuer": authority.issuer(),
                "certificate": authority.certificate(),
            }))
        }
        Standin::HostileRegistry => {
            let registry = HostileRegistry::start(HostileConfig::default())?;
            until_input_ends(&json!({ "host": registry.host() }))
        }
    }
}

fn until_input_ends(what: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{what}")?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
