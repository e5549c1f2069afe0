//! `longshore integration`: integrations are built in, so there is nothing to install.

use std::{env, path::PathBuf};

use longshore_stack::StoreScheme;
use serde::Serialize;

use crate::{
    args::{OutputFormat, stack::IntegrationCommand},
    failure::Failure,
    output::{
        self,
        table::{Align, Table},
    },
};

/// Something that longshore works with.
#[derive(Clone, Copy, Debug, Serialize)]
struct Integration {
    name: &'static str,
    provides: &'static str,
    /// The Python package that is added to the images of stacks with an artifact store of it.
    driver: Option<&'static str>,
    needs: &'static str,
}

const INTEGRATIONS: [Integration; 5] = [
    Integration {
        name: "aws",
        provides: "Amazon ECR, S3 and SageMaker",
        driver: StoreScheme::S3.driver(),
        needs: "nothing",
    },
    Integration {
        name: "azure",
        provides: "Azure's registries, Blob Storage and ML",
        driver: StoreScheme::Azure.driver(),
        needs: "nothing",
    },
    Integration {
        name: "docker",
        provides: "Docker Hub, and registries with passwords",
        driver: None,
        needs: "nothing",
    },
    Integration {
        name: "gcp",
        provides: "Google's registries, Storage, Vertex AI",
        driver: StoreScheme::Gcs.driver(),
        needs: "nothing",
    },
    Integration { name: "github", provides: "GitHub's registry", driver: None, needs: "nothing" },
];

/// The integration of clusters that build images: nothing of it is in longshore.
const KANIKO: &str = "kaniko";

/// `longshore integration`
pub(crate) fn integration(command: IntegrationCommand) -> Result<(), Failure> {
    match command {
        IntegrationCommand::Install { names } => {
            let said: Vec<_> = names.iter().map(|name| install(name)).collect::<Result<_, _>>()?;
            for line in said {
                output::line(&line)?;
            }
            Ok(())
        }
        IntegrationCommand::List { output } => list(output),
    }
}

/// What is to be said of an integration.
fn install(name: &str) -> Result<String, Failure> {
    if name == KANIKO {
        let cluster = match kubernetes_configuration() {
            Some(file) => format!("a cluster is configured in {}", file.display()),
            None => "no cluster is configured ($KUBECONFIG, ~/.kube/config)".to_owned(),
        };
        return Ok(format!(
            "kaniko: nothing to install; images are built by longshore itself, which needs neither kaniko nor a cluster; \
             {cluster}"
        ));
    }
    let names = || INTEGRATIONS.map(|integration| integration.name).join(", ");
    let found = INTEGRATIONS.iter().find(|integration| integration.name == name);
    let Integration { provides, needs, .. } = found
        .ok_or_else(|| Failure::Usage(format!("there is no integration `{name}`; there are: {}", names())))?;
    Ok(format!("{name}: built in ({provides}); it needs {needs} from outside"))
}

fn kubernetes_configuration() -> Option<PathBuf> {
    let named = env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    let files: Vec<PathBuf> = match named {
        Some(paths) => env::split_paths(&paths).collect(),
        None => {
            env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")).into_iter().collect()
        }
    };
    files.into_iter().find(|file| file.is_file())
}

fn list(format: OutputFormat) -> Result<(), Failure> {
    if let Some(format) = format.data() {
        return Ok(output::data(format, &INTEGRATIONS)?);
    }
    let mut table =
        Table::new(["NAME", "WHAT IT PROVIDES", "DRIVER IN IMAGES", "NEEDS"].map(|name| (name, Align::Left)));
    for Integration { name, provides, driver, needs } in INTEGRATIONS {
        table.row([name, provides, driver.unwrap_or("-"), needs].map(str::to_owned));
    }
    Ok(table.print_fitted()?)
}
