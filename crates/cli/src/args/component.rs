//! `longshore container-registry`, `orchestrator`, `image-builder` and `artifact-store`.

use std::{fmt, marker::PhantomData};

use clap::{Args, Subcommand, builder::ValueParser};
use longshore_stack::{ComponentKind, Flavor, Name, Need, Registrable};

use super::{
    OutputFormat,
    values::{OptionTable, TableOption, WordParser, Written},
};

/// A kind of component, as a type: what its commands take differs.
pub(crate) trait Kind: fmt::Debug + Clone + Send + Sync + 'static {
    /// The kind.
    const KIND: ComponentKind;
    /// The kind with its article: `a container registry`.
    const ONE: &'static str;
    /// Several: `container registries`.
    const MANY: &'static str;
    /// Where its credentials come from without a service connector.
    const WITHOUT: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $one:literal, $many:literal, $without:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name;

        impl Kind for $name {
            const KIND: ComponentKind = ComponentKind::$kind;
            const ONE: &'static str = $one;
            const MANY: &'static str = $many;
            const WITHOUT: &'static str = $without;
        }
    )* };
}

kinds! {
    /// Container registries.
    Registries: ContainerRegistry, "a container registry", "container registries", "without one, those of docker are used";
    /// Orchestrators.
    Orchestrators: Orchestrator, "an orchestrator", "orchestrators", "without one, those of this machine are used";
    /// Image builders.
    Builders: ImageBuilder, "an image builder", "image builders", "";
    /// Artifact stores.
    Stores: ArtifactStore, "an artifact store", "artifact stores", "without one, steps use the identity that they run with";
}

/// The commands of the kinds that may be connected to a service connector.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectedComponentCommand<K: Kind> {
    #[command(about = format!("Register {}, connected to a service connector if one is named", K::ONE))]
    Register(RegisterConnected<K>),
    #[command(flatten)]
    Component(ComponentCommand<K>),
    #[command(about = format!("Connect {} to a service connector", K::ONE))]
    Connect {
        /// Its name
        name: String,
        /// The service connector
        #[arg(short, long, value_name = "NAME")]
        connector: Name,
        /// Store the connection without verifying the credentials
        #[arg(long)]
        no_verify: bool,
    },
    #[command(about = format!("Disconnect {} from its service connector", K::ONE))]
    Disconnect {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegisterConnected<K: Kind> {
    #[command(flatten)]
    pub(crate) component: RegisterComponent<K>,
    #[arg(short, long, value_name = "NAME", help = format!("The service connector that gives its credentials; {}", K::WITHOUT))]
    pub(crate) connector: Option<Name>,
    /// Store the connection without verifying the credentials
    #[arg(long, requires = "connector")]
    pub(crate) no_verify: bool,
}

/// The commands of the kinds that are not connected to anything.
#[derive(Debug, Subcommand)]
pub(crate) enum PlainComponentCommand<K: Kind> {
    #[command(about = format!("Register {}", K::ONE))]
    Register(RegisterComponent<K>),
    #[command(flatten)]
    Component(ComponentCommand<K>),
}

#[derive(Debug, Args)]
pub(crate) struct RegisterComponent<K: Kind> {
    /// Its name: letters, digits, `-`, `_` and `.`
    pub(crate) name: Name,
    /// Its flavor
    #[arg(short, long, value_parser = flavor_parser::<K>(), hide_possible_values = true)]
    pub(crate) flavor: Flavor,
    #[command(flatten)]
    pub(crate) values: Written<FlavorFields<K>>,
}

/// What all kinds of components have in common.
#[derive(Debug, Subcommand)]
pub(crate) enum ComponentCommand<K: Kind> {
    #[command(about = format!("List the {}", K::MANY))]
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    #[command(about = format!("Show what {} is", K::ONE))]
    Describe {
        /// Its name
        name: String,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    #[command(about = format!("Give {} other values; an empty one takes a value away", K::ONE))]
    Update {
        /// Its name
        name: String,
        #[command(flatten)]
        values: Written<FlavorFields<K>>,
    },
    #[command(about = format!("Rename {}", K::ONE))]
    Rename {
        /// Its name
        name: String,
        /// Its new name
        new_name: Name,
    },
    #[command(about = format!("Delete {} that no stack uses", K::ONE))]
    Delete {
        /// Its name
        name: String,
    },
    #[command(about = format!("Look at the flavors of {}", K::MANY), subcommand)]
    Flavor(FlavorCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum FlavorCommand {
    /// List the flavors
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

/// The configuration values of all flavors of a kind.
#[derive(Clone, Debug)]
pub(crate) struct FlavorFields<K>(PhantomData<K>);

impl<K: Kind> OptionTable for FlavorFields<K> {
    fn options() -> Vec<TableOption> {
        let flavors: Vec<_> =
            K::KIND.flavors().filter(|flavor| flavor.registrable() == Registrable::Yes).collect();
        let mut options: Vec<TableOption> = Vec::new();
        for field in flavors.iter().flat_map(|flavor| flavor.fields()) {
            if options.iter().any(|option| option.name == field.name) {
                continue;
            }
            let takers: Vec<_> =
                flavors.iter().filter(|flavor| flavor.field(field.name).is_some()).copied().collect();
            let needed = if field.need == Need::Required { " (required)" } else { "" };
            let default = field.default.map_or_else(String::new, |default| format!(" [default: {default}]"));
            let is_of_all = takers.len() == flavors.len();
            options.push(TableOption {
                name: field.name,
                help: match takers[..] {
                    [_, _, ..] if !is_of_all => by_flavor(field.name, &takers),
                    _ => format!("{}{needed}{default}", field.help),
                },
                value_name: field.value_name.to_owned(),
                heading: match takers[..] {
                    [one] if flavors.len() > 1 => format!("Options of flavor {}", one.as_str()),
                    _ if is_of_all => "Options of all flavors".to_owned(),
                    _ => "Options of several flavors".to_owned(),
                },
            });
        }
        options
    }
}

/// What a value means to the flavors that take it: each meaning once, with whom it is for.
fn by_flavor(name: &str, takers: &[Flavor]) -> String {
    let mut meanings: Vec<(&str, Vec<&str>)> = Vec::new();
    for (flavor, field) in takers.iter().filter_map(|flavor| Some((flavor, flavor.field(name)?))) {
        match meanings.iter_mut().find(|(help, _)| *help == field.help) {
            Some((_, flavors)) => flavors.push(flavor.as_str()),
            None => meanings.push((field.help, vec![flavor.as_str()])),
        }
    }
    let meaning = |(help, flavors): &(&str, Vec<&str>)| format!("{}: {help}", flavors.join(", "));
    meanings.iter().map(meaning).collect::<Vec<_>>().join("; ")
}

fn flavor_parser<K: Kind>() -> ValueParser {
    ValueParser::new(WordParser {
        words: || {
            let registrable = K::KIND.flavors().filter(|flavor| flavor.registrable() == Registrable::Yes);
            registrable.map(|flavor| (flavor.as_str(), flavor.summary())).collect()
        },
        read: |text| Flavor::named(K::KIND, text).map_err(|error| error.to_string()),
    })
}
