//! `longshore settings`: what can be set.

use longshore_pipeline::{DockerSettings, settings_page};
use serde_json::{Value, json};

use crate::{
    args::{DataFormat, SettingsForm},
    failure::Failure,
    output,
};

/// Prints what is known of each setting.
pub(crate) fn print(form: SettingsForm) -> Result<(), Failure> {
    match form {
        SettingsForm::Markdown => Ok(output::line(settings_page().trim_end())?),
        SettingsForm::Json => {
            let field = |field: &longshore_pipeline::Field| {
                json!({
                    "name": field.name, "section": field.section.title(), "type": field.kind.words(),
                    "default": field.default, "meaning": field.text(), "merged": field.kind.merges(),
                })
            };
            let fields: Vec<Value> = DockerSettings::FIELDS.iter().map(field).collect();
            Ok(output::data(DataFormat::Json, &fields)?)
        }
    }
}
