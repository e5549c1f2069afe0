//! `longshore service-connector`

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use longshore_auth::{
    CredentialSource, DockerConfig, Environment, Found, Stored, Target,
    connector::{Config, ConnectorType, Kind, Need},
};
use longshore_stack::{Component, Name, NewConnector, RegisteredConnector, State};
use serde::Serialize;

use crate::{
    args::{
        OutputFormat,
        connector::{ConnectorCommand, RegisterConnector, UpdateConnector},
    },
    connection::{self, Connections, Verdict},
    context::Context,
    failure::Failure,
    input,
    output::{
        self,
        facts::{Facts, HIDDEN},
        table::{Align, Table},
    },
    runtime,
};

/// `longshore service-connector`
pub(crate) fn connector(context: &Context, command: ConnectorCommand) -> Result<(), Failure> {
    match command {
        ConnectorCommand::Register(arguments) => register(context, arguments),
        ConnectorCommand::List { output } => list(&context.state()?, output),
        ConnectorCommand::Describe { name, output } => describe(&context.state()?, &name, output),
        ConnectorCommand::Update(arguments) => update(context, &arguments),
        ConnectorCommand::Rename { name, new_name } => {
            context.state()?.rename_connector(&name, &new_name)?;
            Ok(output::line(&format!("renamed service connector `{name}` to `{new_name}`"))?)
        }
        ConnectorCommand::Delete { name } => {
            context.state()?.delete_connector(&name)?;
            Ok(output::line(&format!("deleted service connector `{name}`"))?)
        }
        ConnectorCommand::Verify { name, output } => verify(context, &name, output),
        ConnectorCommand::Login { name, registry, output } => login(context, &name, registry, output),
        ConnectorCommand::ListResources { name, output } => list_resources(context, name, output),
        ConnectorCommand::ListTypes { output } => list_types(output),
        ConnectorCommand::DescribeType { connector_type, output } => describe_type(connector_type, output),
    }
}

fn register(context: &Context, arguments: RegisterConnector) -> Result<(), Failure> {
    let connector_type = arguments.connector_type;
    let method = match (&arguments.auth_method, connector_type.methods()) {
        (Some(method), _) => method,
        (None, [only]) => only.name,
        (None, methods) => {
            let names: Vec<_> = methods.iter().map(|method| method.name).collect();
            return Err(Failure::Usage(format!(
                "{connector_type} connectors need --auth-method, one of: {}",
                names.join(", ")
            )));
        }
    };
    let config = Config::new(connector_type, method, input::values(arguments.values.values())?)?;
    let new = NewConnector { name: arguments.name, config };
    let mut found = vec!["not verified".to_owned()];
    context.state()?.register_connector(&new, |config| {
        if !arguments.no_verify {
            let connections = Connections::new(context)?;
            let verdicts = runtime::block_on(connections.verify(new.name.as_str(), config, &[]))?;
            found = verdicts.iter().map(Verdict::sentence).collect();
        }
        Ok::<_, Failure>(())
    })?;
    Ok(output::line(&format!(
        "registered service connector `{}` ({connector_type}, {method}); {}",
        new.name,
        found.join("; ")
    ))?)
}

fn update(context: &Context, arguments: &UpdateConnector) -> Result<(), Failure> {
    let name = arguments.name.as_str();
    let changes = input::values(arguments.values.values())?;
    if changes.is_empty() && arguments.auth_method.is_none() {
        return Err(Failure::Usage(
            "nothing to update: give the values that are to change, see `longshore service-connector update --help`"
                .to_owned(),
        ));
    }
    let state = context.state()?;
    let config = changed(&state, name, arguments.auth_method.as_deref(), changes)?;
    let mut found = vec!["not verified".to_owned()];
    state.update_connector(name, &config, |config, users| {
        if !arguments.no_verify {
            let connections = Connections::new(context)?;
            let hosts = connection::hosts(users)?;
            let verdicts = runtime::block_on(connections.verify(name, config, &hosts))?;
            found = verdicts.iter().map(Verdict::sentence).collect();
        }
        Ok::<_, Failure>(())
    })?;
    Ok(output::line(&format!("updated service connector `{name}`; {}", found.join("; ")))?)
}

/// The configuration of a connector with some values given anew, and empty ones taken away. What another method does not
/// take is left behind.
fn changed(
    state: &State,
    name: &str,
    method: Option<&str>,
    changes: BTreeMap<String, String>,
) -> Result<Config, Failure> {
    let registered = state.registered_connector(name)?;
    let connector_type = registered.connector_type;
    let method = method.map_or(Ok(registered.method), |method| connector_type.method(method))?;
    // A secret that is replaced need not be opened, nor its key be there.
    let all_given = registered.secrets.iter().all(|field| changes.contains_key(field));
    let (mut plain, mut secrets) = (registered.plain.clone(), BTreeMap::new());
    if !all_given {
        let before = state.connector(name)?;
        secrets =
            before.secrets().into_iter().map(|(field, secret)| (field.to_owned(), secret.clone())).collect();
    }
    plain.retain(|field, _| method.field(field).is_some() && !changes.contains_key(field));
    secrets.retain(|field, _| method.field(field).is_some() && !changes.contains_key(field));
    plain.extend(changes.into_iter().filter(|(_, value)| !value.is_empty()));
    Ok(Config::restore(connector_type, method.name, plain, secrets)?)
}

/// A connector as programs read it.
#[derive(Serialize)]
struct View {
    name: Name,
    r#type: &'static str,
    auth_method: &'static str,
    configuration: BTreeMap<String, String>,
    connected: Vec<Connected>,
    created: Timestamp,
    updated: Timestamp,
}

#[derive(Serialize)]
struct Connected {
    kind: &'static str,
    name: Name,
}

impl View {
    fn new(state: &State, connector: RegisteredConnector) -> Result<Self, Failure> {
        let connected = state.components_connected_to(connector.name.as_str())?;
        let mut configuration = connector.plain;
        configuration.extend(connector.secrets.into_iter().map(|field| (field, HIDDEN.to_owned())));
        Ok(Self {
            name: connector.name,
            r#type: connector.connector_type.name(),
            auth_method: connector.method.name,
            configuration,
            connected: connected
                .into_iter()
                .map(|component: Component| Connected {
                    kind: component.kind().as_str(),
                    name: component.name,
                })
                .collect(),
            created: connector.created,
            updated: connector.updated,
        })
    }

    /// What is connected, in a line.
    fn connected(&self) -> String {
        let names: Vec<_> = self.connected.iter().map(|connected| connected.name.as_str()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    }
}

fn list(state: &State, format: OutputFormat) -> Result<(), Failure> {
    let views: Vec<_> = state
        .connectors()?
        .into_iter()
        .map(|connector| View::new(state, connector))
        .collect::<Result<_, _>>()?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &views)?);
    }
    let mut table = Table::new(["NAME", "TYPE", "AUTH METHOD", "CONNECTED"].map(|name| (name, Align::Left)));
    for view in views {
        let connected = view.connected();
        table.row([view.name.to_string(), view.r#type.to_owned(), view.auth_method.to_owned(), connected]);
    }
    Ok(table.print_fitted()?)
}

fn describe(state: &State, name: &str, format: OutputFormat) -> Result<(), Failure> {
    let view = View::new(state, state.registered_connector(name)?)?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &view)?);
    }
    let mut facts = Facts::new();
    facts.add("name", &view.name);
    facts.add("type", view.r#type);
    facts.add("auth method", view.auth_method);
    for (field, value) in &view.configuration {
        facts.add(field, value);
    }
    facts.add("connected", view.connected());
    facts.add_times(Some(view.created), Some(view.updated));
    Ok(facts.print()?)
}

fn verify(context: &Context, name: &str, format: OutputFormat) -> Result<(), Failure> {
    let state = context.state()?;
    let config = state.connector(name)?;
    let hosts = connection::connected_hosts(&state, name)?;
    let verdicts = runtime::block_on(Connections::new(context)?.verify(name, &config, &hosts))?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &verdicts)?);
    }
    for verdict in verdicts {
        output::line(&format!("service connector `{name}`: {}", verdict.sentence()))?;
    }
    Ok(())
}

/// Docker credentials that were written.
#[derive(Serialize)]
struct Written {
    registry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
    expires: Option<Timestamp>,
}

fn login(
    context: &Context,
    name: &str,
    registries: Vec<String>,
    format: OutputFormat,
) -> Result<(), Failure> {
    let state = context.state()?;
    let config = state.connector(name)?;
    let hosts = if registries.is_empty() { known_hosts(&state, name, &config)? } else { registries };
    if hosts.is_empty() {
        return Err(Failure::Usage(format!(
            "service connector `{name}` is connected to no container registry; name one with --registry=HOST"
        )));
    }
    let connections = Connections::new(context)?;
    let docker = DockerConfig::discover(&Environment::process())?;
    let written = runtime::block_on(async {
        let mut written = Vec::new();
        for host in hosts {
            let connector = connections.open(name, &config, Some(&host))?;
            let target = Target { host: &host, repository: None };
            // What the registry itself refuses is not written.
            connector.verify(Some(target)).await?;
            let Found::Lease(lease) = connector.credential(target).await? else {
                let message = format!(
                    "service connector `{name}` has no credentials for {host}; connect {host} to another"
                );
                return Err(Failure::Usage(message));
            };
            let (file, helper) = match docker.store(&host, &lease).await? {
                Stored::File(path) => (Some(path.display().to_string()), None),
                Stored::Helper(program) => (None, Some(program)),
            };
            written.push(Written { registry: host, file, helper, expires: lease.expires });
        }
        Ok(written)
    })?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &written)?);
    }
    for Written { registry, file, helper, expires } in written {
        let place = match (file, helper) {
            (Some(file), _) => format!("to {file}"),
            (_, helper) => format!("with {}", helper.unwrap_or_default()),
        };
        let until = expires.map_or_else(String::new, |expires| format!(", good until {expires:.0}"));
        output::line(&format!("credentials for {registry} are written {place}{until}"))?;
    }
    Ok(())
}

/// The registries that a connector is known to be for.
fn known_hosts(state: &State, name: &str, config: &Config) -> Result<Vec<String>, Failure> {
    let mut hosts = connection::connected_hosts(state, name)?;
    if hosts.is_empty() {
        hosts.extend(config.plain().get("registry").map(|registry| (*registry).to_owned()));
    }
    Ok(hosts)
}

/// What a connector reaches.
#[derive(Serialize)]
struct Reached {
    connector: Name,
    r#type: &'static str,
    registries: BTreeMap<String, BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn list_resources(context: &Context, name: Option<String>, format: OutputFormat) -> Result<(), Failure> {
    let state = context.state()?;
    let names: Vec<Name> = match name {
        Some(name) => vec![state.registered_connector(&name)?.name],
        None => state.connectors()?.into_iter().map(|connector| connector.name).collect(),
    };
    let connections = Connections::new(context)?;
    let mut all = Vec::new();
    for name in names {
        let config = state.connector(name.as_str())?;
        let hosts = connection::connected_hosts(&state, name.as_str())?;
        let found = runtime::block_on(resources(&connections, &name, &config, &hosts));
        let (registries, error) = match found {
            Ok(registries) => (registries, None),
            Err(Failure::Failed(error)) => (BTreeMap::new(), Some(error.to_string())),
            Err(other) => return Err(other),
        };
        all.push(Reached { connector: name, r#type: config.connector_type().name(), registries, error });
    }
    let failed = all.iter().any(|reached| reached.error.is_some());
    if let Some(format) = format.data() {
        output::data(format, &all)?;
    } else {
        let mut table = Table::new(["CONNECTOR", "REGISTRY", "REPOSITORY"].map(|name| (name, Align::Left)));
        for Reached { connector, registries, .. } in &all {
            for (registry, repositories) in registries {
                let mut row = |repository: &str| {
                    table.row([connector.as_str(), registry, repository].map(str::to_owned));
                };
                if repositories.is_empty() {
                    row("-");
                }
                for repository in repositories {
                    row(repository);
                }
            }
        }
        table.print_fitted()?;
    }
    for error in all.iter().filter_map(|reached| reached.error.as_ref()) {
        anstream::eprintln!("error: {error}");
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

async fn resources(
    connections: &Connections,
    name: &Name,
    config: &Config,
    hosts: &[String],
) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let bound =
        if hosts.is_empty() { vec![None] } else { hosts.iter().map(|host| Some(host.as_str())).collect() };
    let mut registries: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for host in bound {
        for resource in connections.open(name.as_str(), config, host)?.resources().await? {
            registries.entry(resource.registry).or_default().extend(resource.repositories);
        }
    }
    Ok(registries)
}

/// A type of connectors as programs read it.
#[derive(Serialize)]
struct TypeView {
    name: &'static str,
    summary: &'static str,
    auth_methods: Vec<MethodView>,
}

#[derive(Serialize)]
struct MethodView {
    name: &'static str,
    summary: &'static str,
    fields: Vec<FieldView>,
}

#[derive(Serialize)]
struct FieldView {
    name: &'static str,
    help: &'static str,
    required: bool,
    secret: bool,
    default: Option<&'static str>,
}

impl TypeView {
    fn new(connector: ConnectorType) -> Self {
        let methods = connector.methods().iter().map(|method| MethodView {
            name: method.name,
            summary: method.summary,
            fields: method
                .fields
                .iter()
                .map(|field| FieldView {
                    name: field.name,
                    help: field.help,
                    required: field.need == Need::Required,
                    secret: field.kind == Kind::Secret,
                    default: field.default,
                })
                .collect(),
        });
        Self { name: connector.name(), summary: connector.summary(), auth_methods: methods.collect() }
    }
}

fn list_types(format: OutputFormat) -> Result<(), Failure> {
    let views: Vec<_> = ConnectorType::ALL.into_iter().map(TypeView::new).collect();
    if let Some(format) = format.data() {
        return Ok(output::data(format, &views)?);
    }
    let mut table = Table::new(["TYPE", "AUTH METHODS"].map(|name| (name, Align::Left)));
    for view in views {
        // One line for each method: all of them do not fit one.
        for (at, method) in view.auth_methods.iter().enumerate() {
            table.row([if at == 0 { view.name } else { "" }.to_owned(), method.name.to_owned()]);
        }
    }
    Ok(table.print_fitted()?)
}

fn describe_type(connector: ConnectorType, format: OutputFormat) -> Result<(), Failure> {
    let view = TypeView::new(connector);
    if let Some(format) = format.data() {
        return Ok(output::data(format, &view)?);
    }
    output::line(&wrapped(&format!("{}: {}", view.name, view.summary), 0))?;
    for method in &view.auth_methods {
        output::line(&format!("\n{}", method.name))?;
        output::line(&wrapped(method.summary, 2))?;
        for field in &method.fields {
            let mut notes = vec![if field.required { "required" } else { "optional" }];
            notes.extend(field.secret.then_some("secret"));
            let default = field.default.map_or_else(String::new, |default| format!("; default {default}"));
            output::line(&format!("  --{} ({}{default})", field.name, notes.join(", ")))?;
            output::line(&wrapped(field.help, 6))?;
        }
    }
    Ok(())
}

/// A text in lines of at most 80 columns, each indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = vec![" ".repeat(indent)];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].chars().count() + 1 + word.chars().count() > 80 {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            if lines[last].len() > indent {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}
