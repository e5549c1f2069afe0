//! Two packages that both have a file: which one the image has is no accident, but hardly what was meant.

use longshore_oci::Digest;
use longshore_python::{
    install::Venv,
    layers::find_conflicts,
    plan::{LAYOUT_VERSION, WheelLayer},
};
use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Builder, Event, Observer,
    plan::{Content, Plan},
    wheels,
};

/// The row of the table that says at which paths the wheels of an image clash.
const CLASHES: &str = "file-clashes";

/// Wheels in their order.
#[derive(Serialize)]
struct ClashKey {
    layout: u32,
    wheels: Vec<Digest>,
}

/// A path at which wheels have different files.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Clash {
    path: String,
    hidden: String,
    shown: String,
}

impl Builder {
    /// Tells at which paths the packages of an image clash. Looked for once in the same wheels, when all are here: an
    /// image whose layers are all known needs none of them.
    pub(crate) async fn tell_clashes(&self, plan: &Plan, observer: Observer<'_>) -> Result<(), BuildError> {
        let layers: Vec<WheelLayer> = plan
            .layers
            .iter()
            .filter_map(|layer| match &layer.content {
                Content::Wheels(layer) => Some(layer.clone()),
                _ => None,
            })
            .collect();
        let of_layers = layers.iter().flat_map(|layer| &layer.wheels);
        let key = ClashKey { layout: LAYOUT_VERSION, wheels: of_layers.map(|wheel| wheel.digest).collect() };
        let clashes = if let Some(known) = self.table.get::<Vec<Clash>>(CLASHES, &key) {
            known
        } else {
            for digest in &key.wheels {
                if self.downloads.size_of(digest)?.is_none() {
                    return Ok(());
                }
            }
            let venv = Venv::in_image(plan.parent.python().version);
            let downloads = self.downloads.clone();
            let find = move || find_conflicts(&layers, &venv, |wheel| wheels::open(&downloads, wheel));
            let found = tokio::task::spawn_blocking(find).await;
            let found = found.map_err(|_| BuildError::Lost("comparing the packages' files"))??;
            let clash = |clash: longshore_python::install::Conflict| Clash {
                path: clash.path.to_string(),
                hidden: clash.hidden.to_string(),
                shown: clash.shown.to_string(),
            };
            let found: Vec<Clash> = found.into_iter().map(clash).collect();
            self.table.put(CLASHES, &key, &found)?;
            found
        };
        for Clash { path, hidden, shown } in clashes {
            observer(Event::FilesClash { path, hidden, shown });
        }
        Ok(())
    }
}
