//! CycloneDX 1.6 in JSON.

#![expect(clippy::struct_field_names, reason = "the fields are the specification's")]

use std::collections::BTreeMap;

use longshore_oci::Digest;
use serde::Serialize;

use crate::{Image, Inventory, Package, PackageKind, purl};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<ExternalReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

impl Hash {
    fn of(digest: Digest) -> Self {
        Self { alg: "SHA-256", content: digest.hex() }
    }
}

#[derive(Serialize)]
struct ExternalReference {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
}

#[derive(Serialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Evidence {
    occurrences: Vec<Occurrence>,
}

#[derive(Serialize)]
struct Occurrence {
    location: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    depends_on: Vec<String>,
}

/// The document of an inventory.
pub(crate) fn document(inventory: &Inventory) -> Vec<u8> {
    let packages = inventory.by_purl();
    let image = image(&inventory.image);
    let names = packages.keys().cloned().collect();
    let dependencies = vec![Dependency { of: purl::of_image(&inventory.image), depends_on: names }];
    let facts = inventory.build.as_ref();
    let longshore = facts.map_or(env!("CARGO_PKG_VERSION"), |facts| &facts.longshore);
    let tool = Component {
        kind: "application",
        name: "longshore".to_owned(),
        version: Some(longshore.to_owned()),
        ..Component::default()
    };
    let properties = facts.map(|facts| properties(&facts.inputs)).unwrap_or_default();
    crate::json(&Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: format!("urn:uuid:{}", inventory.image.uuid("cyclonedx")),
        version: 1,
        metadata: Metadata {
            timestamp: inventory.image.time().to_string(),
            tools: Tools { components: vec![tool] },
            component: image,
            properties,
        },
        components: packages.iter().map(|(purl, package)| component(purl, package)).collect(),
        dependencies,
    })
}

fn image(image: &Image) -> Component {
    let purl = purl::of_image(image);
    Component {
        kind: "container",
        bom_ref: Some(purl.clone()),
        name: image.repository.to_string(),
        version: Some(image.digest.to_string()),
        hashes: vec![Hash::of(image.digest)],
        purl: Some(purl),
        ..Component::default()
    }
}

fn component(purl: &str, package: &Package) -> Component {
    let url = |url: &url::Url| ExternalReference { kind: "distribution", url: url.to_string() };
    let occurrences: Vec<_> =
        package.locations.iter().map(|location| Occurrence { location: location.clone() }).collect();
    let (kind, properties) = match &package.kind {
        PackageKind::Interpreter => ("application", Vec::new()),
        PackageKind::Python => ("library", Vec::new()),
        PackageKind::Debian { source, .. } => {
            let own = BTreeMap::from([
                ("debian:source".to_owned(), source.name.clone()),
                ("debian:source-version".to_owned(), source.version.clone()),
            ]);
            ("library", properties(&own))
        }
    };
    Component {
        kind,
        bom_ref: Some(purl.to_owned()),
        name: package.name.clone(),
        version: Some(package.version.clone()),
        hashes: package.digest.map(Hash::of).into_iter().collect(),
        purl: Some(purl.to_owned()),
        external_references: package.origin.iter().map(url).collect(),
        properties,
        evidence: (!occurrences.is_empty()).then_some(Evidence { occurrences }),
    }
}

/// Properties in longshore's own namespace.
fn properties(named: &BTreeMap<String, String>) -> Vec<Property> {
    let property = |(name, value): (&String, &String)| Property {
        name: format!("longshore:{name}"),
        value: value.clone(),
    };
    named.iter().map(property).collect()
}
