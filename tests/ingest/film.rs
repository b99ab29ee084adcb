//! Three seconds of picture and sound in every container, and what a player sees and hears of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::{Process, SOON};
use crate::tools::Tool;
use crate::world::World;

/// A file.
#[derive(Debug)]
pub(crate) struct Film {
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) shown: Shown,
}

/// Checksums of decoded pictures and of coded sound, with their times in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) pictures: Vec<(f64, String)>,
    pub(crate) sounds: Vec<(f64, String)>,
}

/// H.264 with B-frames and AAC, a keyframe each second; `name` has the ending of the container.
pub(crate) fn h264(name: &str, options: &str) -> Film {
    static MASTER: OnceLock<PathBuf> = OnceLock::new();
    let master =
        MASTER.get_or_init(|| encode("h264.mp4", "-c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0"));
    let path = beside(master, name);
    ffmpeg(&format!("-i {} -c copy {options} {}", master.display(), path.display()));
    // Of the master: that of MPEG-TS has headers before each frame of sound.
    static SHOWN: OnceLock<Shown> = OnceLock::new();
    let shown = SHOWN.get_or_init(|| Shown::of(&ffmpeg_path(), &master.to_string_lossy(), None)).clone();
    Film { path, shown }
}

/// H.265 and AAC in MP4.
pub(crate) fn h265() -> Film {
    let codec = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params keyint=25:min-keyint=25:log-level=none";
    let path = encode("h265.mp4", codec);
    Film { shown: Shown::of(&ffmpeg_path(), &path.to_string_lossy(), None), path }
}

impl Shown {
    /// Plays a file, or so many seconds of a stream.
    pub(crate) fn of(ffmpeg: &Path, from: &str, seconds: Option<&str>) -> Self {
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-nostdin", "-i", from]);
        let cut: Vec<&str> = seconds.map(|seconds| vec!["-t", seconds]).unwrap_or_default();
        let pictures = "-map 0:v -fps_mode passthrough -enc_time_base 1/1000 -f framecrc pipe:1";
        let sounds = "-map 0:a -c copy -f framecrc pipe:2";
        command.args(&cut).args(pictures.split(' ')).args(&cut).args(sounds.split(' '));
        let output = command.output().expect("ffmpeg starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{from}: {said}");
        let shown = Self { pictures: listed(&String::from_utf8_lossy(&output.stdout)), sounds: listed(&said) };
        let complaints: Vec<&str> = said.lines().filter(|line| !line.starts_with(['#', '0', '1'])).collect();
        assert!(complaints.is_empty(), "{from}: the player complains: {complaints:?}");
        assert!(!shown.pictures.is_empty() && !shown.sounds.is_empty(), "{from}: nothing was played: {said}");
        shown
    }

    /// Asserts that this is a stretch of `film` that is repeated again and again, with every picture and sound in its
    /// place, and that it goes over at least one seam.
    pub(crate) fn assert_loops(&self, film: &Self) {
        let seams = [
            assert_cyclic("pictures", &self.pictures, &film.pictures),
            assert_cyclic("sounds", &self.sounds, &film.sounds),
        ];
        assert!(seams.iter().all(|seams| *seams >= 1), "no seam was played: {seams:?}");
    }

    /// Asserts that this is a stretch of `film`.
    pub(crate) fn assert_is_of(&self, film: &Self) {
        assert_eq!(assert_cyclic("pictures", &self.pictures, &film.pictures), 0);
        assert_eq!(assert_cyclic("sounds", &self.sounds, &film.sounds), 0);
    }

    /// Asserts that this is a stretch of `film` up to its last picture and sound.
    pub(crate) fn assert_ends_with(&self, film: &Self) {
        for (what, got, sent) in
            [("pictures", &self.pictures, &film.pictures), ("sounds", &self.sounds, &film.sounds)]
        {
            let tail = sent.len().checked_sub(got.len()).unwrap_or_else(|| panic!("more {what} than were sent"));
            let differs = got.iter().zip(&sent[tail..]).position(|(got, sent)| got.1 != sent.1);
            assert_eq!(differs, None, "{what}: {} of {} were played, and differ", got.len(), sent.len());
        }
    }

    /// How far sound is behind the picture where the last keyframe's worth of both is known.
    pub(crate) fn distance(&self, film: &Self) -> f64 {
        let place = |got: &[(f64, String)], sent: &[(f64, String)]| {
            let (time, sum) = got.first().expect("something was played");
            let (was, _) = sent.iter().find(|sent| sent.1 == *sum).expect("it was sent");
            time - was
        };
        place(&self.sounds, &film.sounds) - place(&self.pictures, &film.pictures)
    }
}

/// How often the end of the film was followed by its begin.
fn assert_cyclic(what: &str, got: &[(f64, String)], film: &[(f64, String)]) -> usize {
    let first = film.iter().position(|one| one.1 == got[0].1);
    let first = first.unwrap_or_else(|| panic!("{what}: the first is not of this film: {:?}", got[0]));
    for (nth, one) in got.iter().enumerate() {
        let wanted = (first + nth) % film.len();
        assert_eq!(one.1, film[wanted].1, "{what}: {nth} of {} should be {wanted} of {}", got.len(), film.len());
    }
    for two in got.windows(2) {
        let step = two[1].0 - two[0].0;
        assert!(step > 0.0 && step < 0.12, "{what}: time steps by {step} s at {} s", two[0].0);
    }
    (first + got.len() - 1) / film.len()
}

/// Times and checksums of a listing of framecrc.
fn listed(text: &str) -> Vec<(f64, String)> {
    let mut base = 1.0;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some((_, fraction)) = line.split_once("#tb 0: ") {
            let (over, under) = fraction.split_once('/').expect("a time base is a fraction");
            base = over.parse::<f64>().expect("a number") / under.parse::<f64>().expect("a number");
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if let ["0", _, pts, _, _, sum, ..] = &*fields {
            found.push((pts.parse::<f64>().expect("a time") * base, (*sum).to_owned()));
        }
    }
    found
}

/// A player that comes first waits for what it is about to be sent.
pub(crate) const PATIENT: &str = "[[app]]\nname = \"live\"\nabsent = \"wait 20s\"\n";

/// Starts an ffmpeg that sends a file in real time.
pub(crate) fn send(world: &World, film: &Film, to: &str) -> Process {
    let mut command = Command::new(ffmpeg_path());
    command.args(["-v", "error", "-nostdin", "-re", "-i"]).arg(&film.path).args(to.split(' '));
    Process::start(&world.dir, "sender", &mut command)
}

pub(crate) fn ffmpeg_path() -> PathBuf {
    Tool::Ffmpeg.path().expect("the test has asked for this tool")
}

fn encode(name: &str, codec: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ingest").join(format!("{}-{name}", std::process::id()));
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("the directory for media can be made");
    let picture = "-f lavfi -i testsrc2=size=320x180:rate=25";
    let sound = "-f lavfi -i anoisesrc=amplitude=0.1:seed=7:sample_rate=48000";
    ffmpeg(&format!("{picture} {sound} -t 3 {codec} -pix_fmt yuv420p -c:a aac -b:a 64k -ac 2 {}", path.display()));
    path
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(format!("{}-{name}", std::process::id()))
}

fn ffmpeg(arguments: &str) {
    let mut command = Command::new(ffmpeg_path());
    let output = command.args(["-v", "error", "-nostdin", "-y"]).args(arguments.split(' ')).output();
    let output = output.expect("ffmpeg starts");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until somebody publishes the stream: then ffmpeg plays of it.
pub(crate) fn wait_until_published(world: &World, stream: &str) {
    let url = world.url(stream);
    crate::process::wait_for("that the stream is published", SOON, || {
        let mut probe = Command::new("ffprobe");
        let probed = probe.args(["-v", "quiet", "-show_entries", "stream=codec_name", &url]).output().ok()?;
        probed.status.success().then_some(())
    });
}
