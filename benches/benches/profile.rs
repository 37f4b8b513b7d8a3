//! Prints allocations and bytes for each message of each path, as dhat counts them, and the call
//! site of every allocation.
//!
//! It measures no time. `cargo bench` passes `--bench`, and the smoke run `--test`, which takes the
//! first paths only. The profiles stay in a directory that is named at the end, for dhat's viewer.

use std::path::{Path as File, PathBuf};
use std::process::ExitCode;

use executor_benches::paths::{MESSAGES, PATHS, Path, Rig};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Frames of a call site that are printed.
const FRAMES: usize = 4;
/// Paths of a smoke run.
const FEW: usize = 3;

/// Profiles one warm round; gives the profile.
fn profile(rig: &mut Rig, path: &Path, file: &File) -> Result<Value, String> {
    path.warm_up(rig);
    let profiler = dhat::Profiler::builder().file_name(file).build();
    path.round(rig);
    drop(profiler);
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Ours, rather than the allocator's or the standard library's.
fn is_ours(frame: &str) -> bool {
    frame.contains("executor_")
}

/// A frame without its address.
fn name(frame: &str) -> &str {
    frame.split_once(": ").map_or(frame, |(_, name)| name)
}

/// Prints what was allocated, and where.
fn print(path: &Path, profile: &Value) -> Option<()> {
    let frames = profile["ftbl"].as_array()?;
    let sites = profile["pps"].as_array()?;
    let sum = |key: &str| {
        sites
            .iter()
            .filter_map(|site| site[key].as_u64())
            .sum::<u64>()
    };
    let each = |total: u64| total as f64 / MESSAGES as f64;
    println!(
        "{:<40} {:>8.3} allocations {:>10.1} bytes for each message",
        path.name,
        each(sum("tbk")),
        each(sum("tb")),
    );
    for site in sites {
        println!("    {} times {} bytes, at", site["tbk"], site["tb"]);
        let of_site = site["fs"].as_array()?;
        let named = of_site
            .iter()
            .filter_map(|frame| frames.get(usize::try_from(frame.as_u64()?).ok()?)?.as_str());
        let ours: Vec<_> = named.clone().filter(|frame| is_ours(frame)).collect();
        let shown = if ours.is_empty() {
            named.collect()
        } else {
            ours
        };
        for frame in shown.into_iter().take(FRAMES) {
            println!("        {}", name(frame));
        }
    }
    Some(())
}

fn main() -> ExitCode {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let paths = &PATHS[..if smoke { FEW } else { PATHS.len() }];
    let directory = std::env::temp_dir().join(format!("executor-dhat-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&directory) {
        eprintln!("profile: no directory for the profiles: {error}");
        return ExitCode::FAILURE;
    }
    let mut rig = Rig::new();
    for path in paths {
        let file: PathBuf = directory.join(format!("{}.json", path.name.replace([' ', ','], "-")));
        match profile(&mut rig, path, &file) {
            Ok(profile) if print(path, &profile).is_some() => {}
            Ok(_) => {
                eprintln!("profile: dhat's format is another one than this was written for");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("profile: {}: {error}", path.name);
                return ExitCode::FAILURE;
            }
        }
    }
    if smoke {
        // Nobody looks at the profiles of a smoke run, and what is not removed is in nobody's way.
        let _ = std::fs::remove_dir_all(&directory);
    } else {
        println!("profiles: {}", directory.display());
    }
    ExitCode::SUCCESS
}
