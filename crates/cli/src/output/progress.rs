//! What a person sees of a build: a line for each thing that happened, and on a terminal a bar below them.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_build::{AptReport, Event, ImageReport, LayerReport, Origin, ParentReport};
use longshore_oci::{Platform, Reference};
use longshore_preflight::Finding;

use super::{
    findings,
    quantity::{count, duration, size},
    table::shorten,
};

/// The width of the labels at the left.
const LABEL: usize = 8;
/// So many of the parent's packages are named.
const PRESENT: usize = 6;
/// The width of what a line is about, so that sizes stand in a column within 80 columns.
const SUBJECT: usize = 38;

/// The most columns that the name of an image may take.
const NAME: usize = 16;

/// Shows the events of a build on standard error: of one image, or of one of several that are built at once, each with a
/// name before its lines and with a bar of its own below them.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    bar: ProgressBar,
    state: Arc<Mutex<State>>,
    /// What stands before each line.
    name: String,
}

#[derive(Debug, Default)]
struct State {
    /// The name and the label that were written last: they are not repeated.
    last: (String, &'static str),
}

impl Progress {
    /// A view without lines yet.
    pub(crate) fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self::below(MultiProgress::with_draw_target(target), Arc::default(), String::new())
    }

    fn below(bars: MultiProgress, state: Arc<Mutex<State>>, name: String) -> Self {
        let bar = bars.add(ProgressBar::new(0));
        bar.set_style(style("{prefix}{spinner} {wide_msg}"));
        bar.set_prefix(name.clone());
        Self { bars, bar, state, name }
    }

    /// A view for each of several images, which share the terminal.
    pub(crate) fn of_images(&self, names: &[String]) -> Vec<Self> {
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(NAME);
        let view = |name: &String| {
            let name = format!("{:<width$} | ", shorten(name, width));
            Self::below(self.bars.clone(), Arc::clone(&self.state), name)
        };
        names.iter().map(view).collect()
    }

    /// Says what is being done.
    pub(crate) fn heading(&self, text: &str) {
        let bold = anstyle::Style::new().bold();
        self.bars.suspend(|| anstream::eprintln!("{bold}{}{text}{bold:#}", self.name));
    }

    /// Takes an event.
    pub(crate) fn observe(&self, event: Event) {
        match event {
            Event::ParentStarted => self.wait("looking up Debian packages for the parent image"),
            Event::ParentMoved { image, from, to } => {
                self.line("parent", &format!("{image} moved from {from} to {to}"));
            }
            Event::ParentDone(parent) => self.parent(&parent),
            Event::AptStarted => self.wait("choosing Debian packages"),
            Event::AptPlanned(apt) => self.apt(&apt),
            Event::LockStarted => self.wait("resolving requirements"),
            Event::LockDone { packages, took, origin } => self.lock(packages, took, origin),
            Event::PackagesPresent { packages } => {
                self.line("parent", &super::plan::present(&packages, PRESENT));
            }
            Event::FetchStarted { bytes } => {
                self.bar
                    .set_style(style("{prefix}fetching [{bar:30}] {decimal_bytes}/{decimal_total_bytes}"));
                self.bar.inc_length(bytes);
            }
            Event::PushStarted { bytes } => {
                self.bar.set_style(style("{prefix}pushing [{bar:30}] {decimal_bytes}/{decimal_total_bytes}"));
                self.bar.set_position(0);
                self.bar.set_length(bytes);
            }
            Event::FetchProgress { bytes } => match u64::try_from(bytes) {
                Ok(more) => self.bar.inc(more),
                Err(_) => self.bar.dec(bytes.unsigned_abs()),
            },
            Event::FetchDone { what, bytes, took } => {
                self.line("fetched", &self.row(&what, Some(bytes), "", Some(took)));
            }
            Event::LayerDone(layer) => self.layer(&layer),
            Event::WheelBuilt { what, bytes, took } => {
                self.line("wheel", &self.row(&what, Some(bytes), "built", Some(took)));
            }
            Event::FilesClash { path, hidden, shown } => {
                self.line(
                    "clash",
                    &format!("{path} is in {shown} and, different, in {hidden}: the former is taken"),
                );
            }
            Event::SbomNotAttached { reason } => {
                self.line("sbom", &format!("not attached: {reason}"));
            }
            Event::ImageUsed { image } => {
                self.bar.finish_and_clear();
                self.line("image", &image.digest.map_or_else(String::new, |digest| digest.to_string()));
                self.line("image", "used as it is");
            }
            Event::ImageDone(image) => self.image(&image),
            Event::Platform(platform) => self.line("platform", &platform.to_string()),
            Event::IndexDone { image, platforms, took } => self.index(&image, &platforms, took),
            _ => {}
        }
    }

    fn wait(&self, message: &str) {
        self.bar.set_message(message.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn parent(&self, parent: &ParentReport) {
        let state = match parent.origin {
            Origin::New => "made",
            Origin::Reused => "already there",
        };
        self.line(
            "parent",
            &self.row(&parent.title, Some(parent.size), state, took(parent.origin, parent.took)),
        );
        if !parent.scripts_not_run.is_empty() {
            let packages = parent.scripts_not_run.join(", ");
            self.line("parent", &format!("installation scripts were not run: {packages}"));
        }
    }

    fn apt(&self, apt: &AptReport) {
        for line in super::plan::apt_lines(apt) {
            self.line("apt", &line);
        }
    }

    fn lock(&self, packages: usize, time: Duration, origin: Origin) {
        let state = match origin {
            Origin::New => "resolved",
            Origin::Reused => "unchanged",
        };
        self.line("lock", &self.row(&count(packages, "package"), None, state, took(origin, time)));
    }

    fn layer(&self, report: &LayerReport) {
        let state = match report.origin {
            Origin::New => report.layer.verb,
            Origin::Reused => "already there",
        };
        self.line(
            "layer",
            &self.row(&report.layer.title, Some(report.size), state, took(report.origin, report.took)),
        );
    }

    fn image(&self, image: &ImageReport) {
        self.bar.finish_and_clear();
        let digest = image.image.digest.map_or_else(String::new, |digest| digest.to_string());
        self.line("image", &digest);
        let mounted = match image.mounted {
            0 => String::new(),
            mounted => format!(" and mounted {mounted}"),
        };
        let pushed = format!(
            "pushed {} in {}{mounted}; {} of {} in all; {}",
            size(image.pushed),
            count(image.new_layers, "new layer"),
            count(image.layers, "layer"),
            size(image.size),
            duration(image.took),
        );
        self.line("image", &pushed);
    }

    fn index(&self, image: &Reference, platforms: &[Platform], took: Duration) {
        let digest = image.digest.map_or_else(String::new, |digest| digest.to_string());
        self.line("index", &digest);
        let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        self.line("index", &format!("for {}; {}", platforms.join(", "), duration(took)));
    }

    /// Says what was found wrong, or soon may be.
    pub(crate) fn findings<'a>(&self, findings: impl Iterator<Item = &'a Finding>) {
        let text: String = findings.map(findings::entry).collect();
        self.bars.suspend(|| anstream::eprint!("{text}"));
    }

    /// Says that nothing was found wrong.
    pub(crate) fn checked(&self, what: &str, took: Duration) {
        self.line("checked", &self.row(what, None, "", Some(took)));
    }

    /// Writes one line, above the bar.
    pub(crate) fn line(&self, label: &'static str, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = if state.last == (self.name.clone(), label) { "" } else { label };
        state.last = (self.name.clone(), label);
        let (bold, name) = (anstyle::Style::new().bold(), &self.name);
        let write = || anstream::eprintln!("{bold}{name}{shown:<LABEL$}{bold:#} {text}");
        self.bars.suspend(write);
    }

    /// A subject, its size, what became of it and how long that took, in columns.
    fn row(&self, subject: &str, bytes: Option<u64>, state: &str, took: Option<Duration>) -> String {
        let width = SUBJECT - self.name.chars().count();
        let subject = shorten(subject, width);
        let bytes = bytes.map(size).unwrap_or_default();
        let took = took.map(duration).unwrap_or_default();
        format!("{subject:<width$} {bytes:>8}  {state:<13} {took:>8}").trim_end().to_owned()
    }

    /// Takes the bar away, so that others may write.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn took(origin: Origin, time: Duration) -> Option<Duration> {
    (origin == Origin::New).then_some(time)
}

#[expect(clippy::expect_used, reason = "the templates are constants, each drawn by a test")]
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_80_columns() {
        let one = Progress::new();
        let several = one.of_images(&["train".to_owned(), "a_step_with_a_long_name".to_owned()]);
        assert_eq!(several[0].name, "train            | ");
        for view in [&one, &several[0], &several[1]] {
            let text = view.row(
                &"x".repeat(100),
                Some(999_999_999),
                "already there",
                Some(Duration::from_secs(3599)),
            );
            let columns = view.name.chars().count() + LABEL + 1 + text.chars().count();
            assert!(columns <= 80, "{columns} columns");
        }
    }
}
