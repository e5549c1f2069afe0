//! SPDX 2.3 in JSON.

#![expect(clippy::struct_field_names, reason = "the fields are the specification's")]

use longshore_oci::Digest;
use serde::Serialize;

use crate::{Inventory, Package, PackageKind, purl};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const UNKNOWN: &str = "NOASSERTION";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Entry>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    supplier: &'static str,
    download_location: String,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: &'static str,
    copyright_text: &'static str,
    external_refs: Vec<ExternalRef>,
    primary_package_purpose: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The document of an inventory.
pub(crate) fn document(inventory: &Inventory) -> Vec<u8> {
    let image = &inventory.image;
    let facts = inventory.build.as_ref();
    let longshore = facts.map_or(env!("CARGO_PKG_VERSION"), |facts| &facts.longshore);
    let inputs = facts.map(|facts| {
        let lines = facts.inputs.iter().map(|(name, value)| format!("longshore:{name}={value}"));
        lines.collect::<Vec<_>>().join("\n")
    });
    let whole = Described {
        name: image.repository.to_string(),
        version: image.digest.to_string(),
        origin: None,
        digest: Some(image.digest),
        source: None,
        purpose: "CONTAINER",
    };
    let mut packages = vec![whole.entry(IMAGE.to_owned(), purl::of_image(image))];
    let mut relationships = vec![relation(DOCUMENT, "DESCRIBES", IMAGE)];
    for (purl, package) in inventory.by_purl() {
        let id = id(&purl, &package);
        relationships.push(relation(IMAGE, "CONTAINS", &id));
        packages.push(Described::of(package).entry(id, purl));
    }
    crate::json(&Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: format!("{}@{}", image.repository, image.digest),
        // What the specification proposes to those who have no site of their own for their documents.
        document_namespace: format!("https://spdx.org/spdxdocs/longshore-{}", image.uuid("spdx")),
        creation_info: CreationInfo {
            created: image.time().to_string(),
            creators: vec![format!("Tool: longshore-{longshore}")],
            comment: inputs,
        },
        packages,
        relationships,
    })
}

fn relation(from: &str, kind: &'static str, to: &str) -> Relationship {
    Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    }
}

/// An identifier of letters, digits, dots and hyphens; the digest keeps apart what these make alike.
fn id(purl: &str, package: &Package) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = package.name.chars().map(plain).collect();
    format!("SPDXRef-{name}-{}", Digest::of(purl).short())
}

struct Described {
    name: String,
    version: String,
    origin: Option<String>,
    digest: Option<Digest>,
    source: Option<String>,
    purpose: &'static str,
}

impl Described {
    fn of(package: Package) -> Self {
        let locations = package.locations.into_iter().collect::<Vec<_>>().join(", ");
        let (source, purpose) = match package.kind {
            PackageKind::Debian { source, .. } => {
                (Some(format!("built package from: {} {}", source.name, source.version)), "LIBRARY")
            }
            kind => {
                let source = (!locations.is_empty()).then(|| format!("installed in: {locations}"));
                (source, if kind == PackageKind::Interpreter { "APPLICATION" } else { "LIBRARY" })
            }
        };
        Self {
            name: package.name,
            version: package.version,
            origin: package.origin.map(String::from),
            digest: package.digest,
            source,
            purpose,
        }
    }

    fn entry(self, id: String, purl: String) -> Entry {
        let checksum = |digest: Digest| Checksum { algorithm: "SHA256", checksum_value: digest.hex() };
        Entry {
            id,
            name: self.name,
            version_info: self.version,
            supplier: UNKNOWN,
            download_location: self.origin.unwrap_or_else(|| UNKNOWN.to_owned()),
            files_analyzed: false,
            checksums: self.digest.map(checksum).into_iter().collect(),
            source_info: self.source,
            license_concluded: UNKNOWN,
            license_declared: UNKNOWN,
            copyright_text: UNKNOWN,
            external_refs: vec![ExternalRef {
                reference_category: "PACKAGE-MANAGER",
                reference_type: "purl",
                reference_locator: purl,
            }],
            primary_package_purpose: self.purpose,
        }
    }
}
