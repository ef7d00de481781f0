//! `kinora devices`: what this machine has to see and to show with.

use std::fmt::Write;

use clap::ValueEnum;
use kinora::capture::{self, CameraInfo, ControlState};
use kinora::display::{self, Card};
use kinora::engine::{Choice, Kernels};

/// All of it, as text.
pub fn describe() -> String {
    let mut out = String::from("Cameras\n");
    let cameras = capture::cameras();
    if cameras.is_empty() {
        out += "  none (a network camera goes by rtsp://..., one of a Jetson or Raspberry Pi by gst:PIPELINE)\n";
    }
    for camera in &cameras {
        describe_camera(&mut out, camera);
    }
    out += "Displays\n";
    let cards = display::devices();
    if cards.is_empty() {
        out += "  no screen without a desktop (no /dev/dri/card*)\n";
    }
    for card in &cards {
        describe_card(&mut out, card);
    }
    out += "  window (X11 or Wayland), video:OUT.mp4, png:DIR, none\n";
    out += "Engines\n";
    for engine in Choice::value_variants() {
        let value = engine.to_possible_value();
        let (name, help) = value.as_ref().map_or(("?", None), |value| (value.get_name(), value.get_help()));
        let help = help.map(|help| format!("  {help}")).unwrap_or_default();
        put(&mut out, format_args!("  {name}{help}\n"));
    }
    let kernels: Vec<_> = Kernels::available().map(Kernels::name).collect();
    put(&mut out, format_args!("  kernels of native on this processor: {}\n", kernels.join(", ")));
    out
}

/// Writing to a text does not fail.
fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(what);
}

fn describe_camera(out: &mut String, camera: &CameraInfo) {
    let path = camera.path.display();
    if let Some(problem) = &camera.problem {
        return put(out, format_args!("  {path}  cannot be opened: {problem}\n"));
    }
    put(out, format_args!("  v4l:{path}  {} ({}, {})\n", camera.name, camera.driver, camera.bus));
    for mode in &camera.modes {
        put(out, format_args!("    {mode}\n"));
    }
    for control in &camera.controls {
        put(out, format_args!("    --control {}\n", describe_control(control)));
    }
}

fn describe_card(out: &mut String, card: &Card) {
    let problem = card.problem.as_ref().map_or(String::new(), |problem| format!("  not now: {problem}"));
    put(out, format_args!("  kms:{}  {}{problem}\n", card.path.display(), card.driver));
    for connector in &card.connectors {
        let state = match (&connector.preferred, connector.connected) {
            (Some(mode), _) => format!("{mode} of {}", connector.modes.join(", ")),
            (None, true) => "a screen without modes".to_string(),
            (None, false) => "no screen".to_string(),
        };
        put(out, format_args!("    connector={}: {state}\n", connector.name));
    }
}

fn describe_control(control: &ControlState) -> String {
    let ControlState { name, value, minimum, maximum, default, items } = control;
    let value = value.map_or("?".to_string(), |value| value.to_string());
    if items.is_empty() {
        return format!("{name}={value} ({minimum} to {maximum}, at first {default})");
    }
    let items: Vec<_> = items.iter().map(|(item, name)| format!("{item} {name}")).collect();
    format!("{name}={value} ({}; at first {default})", items.join(", "))
}
