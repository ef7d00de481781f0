//! `kinora inspect DIR`: a bundle in words. What is wrong with a broken one is the error that loading it returned.

use std::fmt::Write;

use kinora::Result;
use kinora::engine::{self, Options};
use kinora::model::manifest::{Activation, Colour, Mode, Resize};
use kinora::model::{Bundle, Manifest, onnx};

/// Width of the column that names what a line is about.
const COLUMN: usize = 14;

/// `bundle` in words, several lines. It is run once, to see that it computes its golden logits.
///
/// # Errors
/// `Model` or `Engine` when the bundle cannot be run or computes something else.
pub fn describe(bundle: &Bundle) -> Result<String> {
    let manifest = &bundle.manifest;
    let weights = onnx::read_weights(&bundle.onnx())?;
    let parameters: usize = weights.values().map(|tensor| tensor.len()).sum();
    let engine = engine::open(bundle, &Options::default())?;
    let deviation = engine::verify(&*engine, bundle)?;
    let mut out = Page(String::new());
    out.line("bundle", format_args!("{} ({}), format {}", manifest.name, bundle.dir.display(), manifest.format));
    out.line("architecture", format_args!("{}, {} parameters", manifest.architecture, thousands(parameters as u64)));
    describe_input(&mut out, manifest);
    describe_output(&mut out, bundle);
    describe_decision(&mut out, manifest);
    out.line("licence", &manifest.provenance.licence);
    out.line("trained on", &manifest.provenance.data);
    out.line("recipe", &manifest.provenance.recipe);
    if manifest.measured.is_empty() {
        out.line("measured", "nothing");
    }
    for measured in &manifest.measured {
        out.line("measured", format_args!("{} {} on {}", measured.figure, measured.value, measured.on));
    }
    let (name, kernels, precision) = (engine.name(), engine.kernels(), engine.precision().name());
    out.line("engine", format_args!("{name} {precision} ({kernels}), within {deviation:.0e} of the golden logits"));
    for file in manifest.sha256.keys() {
        let bytes = std::fs::metadata(bundle.dir.join(file)).map(|found| found.len());
        match bytes {
            Ok(bytes) => out.line("file", format_args!("{file}, {} bytes", thousands(bytes))),
            Err(why) => out.line("file", format_args!("{file}: {why}")),
        }
    }
    Ok(out.0)
}

fn describe_input(out: &mut Page, manifest: &Manifest) {
    let input = &manifest.input;
    let colour = match input.colour {
        Colour::Rgb => "red, green, blue",
        Colour::Gray => "gray",
        Colour::Flow => "optical flow from the frame before",
        Colour::RgbFlow => "red, green, blue and optical flow from the frame before",
        Colour::Motion => "differences of red, green, blue to the frame before",
    };
    let resize = match input.resize {
        Resize::Crop => "cut to the centre",
        Resize::Pad => "fitted inside with black around",
        Resize::Stretch => "stretched",
    };
    let seconds = input.frames as f32 / input.frame_rate;
    out.line("input", format_args!("{}x{} pixels, {resize}; {colour}", input.width, input.height));
    let (frames, rate) = (input.frames, input.frame_rate);
    out.line("window", format_args!("{frames} frames at {rate} a second: {seconds:.2} s"));
    let hop = manifest.run.hop;
    let every = hop as f32 / rate;
    let how = match manifest.run.mode {
        Mode::Window => "on the whole window",
        Mode::Stream => "each frame computed once, as a stream",
    };
    out.line("decides", format_args!("every {hop} frames ({every:.2} s), {how}"));
}

fn describe_output(out: &mut Page, bundle: &Bundle) {
    let activation = match bundle.manifest.output.activation {
        Activation::Softmax => "one at a time (softmax)",
        Activation::Sigmoid => "any number at a time (sigmoid)",
    };
    out.line("output", format_args!("{} classes, {activation}", bundle.labels.len()));
    out.line("labels", bundle.labels.join(", "));
    for [left, right] in &bundle.manifest.sided {
        out.line("sided", format_args!("{left} and {right} change places in a mirror"));
    }
}

fn describe_decision(out: &mut Page, manifest: &Manifest) {
    let decision = &manifest.decision;
    let (enter, exit) = (decision.enter, decision.exit);
    out.line(
        "decision",
        format_args!(
            "starts at {enter}, ends below {exit}, smoothed over {} s, at least {} s long, gaps of {} s merged, \
             {} s of rest, put back by {} s",
            decision.smoothing_s, decision.min_duration_s, decision.merge_gap_s, decision.cooldown_s, decision.lag_s
        ),
    );
    for (label, thresholds) in &decision.labels {
        out.line("", format_args!("{label} starts at {}, ends below {}", thresholds.enter, thresholds.exit));
    }
    out.line("idle label", &decision.nothing);
}

/// Lines of a name and what there is to say.
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, text: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:COLUMN$}{text}");
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
