//! `longshore service-connector`

use clap::{Args, Subcommand, builder::ValueParser};
use longshore_auth::connector::{ConnectorType, Field, Method};
use longshore_stack::Name;

use super::{
    OutputFormat,
    values::{OptionTable, TableOption, WordParser, Written},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorCommand {
    /// Register a service connector: credentials, sealed on this machine, that give short-lived ones for registries
    Register(RegisterConnector),
    /// List the service connectors
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show what a service connector is. Secrets are ***
    Describe {
        /// Its name
        name: String,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Give a service connector other values, which are verified; an empty one takes a value away
    Update(UpdateConnector),
    /// Rename a service connector; what is connected to it stays connected
    Rename {
        /// Its name
        name: String,
        /// Its new name
        new_name: Name,
    },
    /// Delete a service connector that nothing is connected to
    Delete {
        /// Its name
        name: String,
    },
    /// Ask the real service whether a connector's credentials are good
    Verify {
        /// Its name
        name: String,
        /// How to print what it said
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Write docker credentials that docker, podman, skopeo, … use, for the registries that are connected
    Login {
        /// The connector's name
        name: String,
        /// The registry's host, in place of those of the container registries that are connected
        #[arg(long, value_name = "HOST")]
        registry: Vec<String>,
        /// How to print what was written
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// List the registries and repositories that connectors reach
    ListResources {
        /// The connector's name; all connectors without one
        name: Option<String>,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// List the types of connectors and their authentication methods
    ListTypes {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show the authentication methods of a type, and what each takes
    DescribeType {
        /// The type
        #[arg(value_parser = type_parser(), value_name = "TYPE")]
        connector_type: ConnectorType,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegisterConnector {
    /// Its name: letters, digits, `-`, `_` and `.`
    pub(crate) name: Name,
    /// Whose credentials it has
    #[arg(short = 't', long = "type", value_parser = type_parser(), value_name = "TYPE")]
    pub(crate) connector_type: ConnectorType,
    /// How it authenticates; `describe-type` says what each method takes
    #[arg(short, long, value_name = "METHOD")]
    pub(crate) auth_method: Option<String>,
    /// Store it without asking the real service whether its credentials are good
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) values: Written<ConnectorFields>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateConnector {
    /// Its name
    pub(crate) name: String,
    /// Another authentication method; values that it takes too are kept
    #[arg(short, long, value_name = "METHOD")]
    pub(crate) auth_method: Option<String>,
    /// Store it without asking the real service whether its credentials are good
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) values: Written<ConnectorFields>,
}

/// The fields of all types and methods.
#[derive(Clone, Debug)]
pub(crate) struct ConnectorFields;

impl OptionTable for ConnectorFields {
    fn options() -> Vec<TableOption> {
        let all: Vec<(ConnectorType, &Method, &Field)> = ConnectorType::ALL
            .into_iter()
            .flat_map(|connector| connector.methods().iter().map(move |method| (connector, method)))
            .flat_map(|(connector, method)| method.fields.iter().map(move |field| (connector, method, field)))
            .collect();
        let mut options: Vec<TableOption> = Vec::new();
        for (connector, _, field) in &all {
            if options.iter().any(|option| option.name == field.name) {
                continue;
            }
            let same = || all.iter().filter(|(_, _, other)| other.name == field.name);
            let one_type = same().all(|(other, _, _)| other == connector);
            let default = field.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
            options.push(TableOption {
                name: field.name,
                help: format!("{}{default}", field.help),
                value_name: if field.name.ends_with("json") { "@FILE" } else { "VALUE" }.to_owned(),
                heading: if one_type {
                    format!("Options of type {connector}")
                } else {
                    "Options of several types".to_owned()
                },
            });
        }
        // Headings are listed in the order in which they first appear.
        options.sort_by_key(|option| option.heading == "Options of several types");
        options
    }
}

fn type_parser() -> ValueParser {
    ValueParser::new(WordParser {
        words: || ConnectorType::ALL.map(|connector| (connector.name(), connector.summary())).to_vec(),
        read: |text| text.parse::<ConnectorType>().map_err(|error| error.to_string()),
    })
}
