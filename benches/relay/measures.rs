//! The numbers of one run, and their way from the generator to its parent: a line `name value` for each.

macro_rules! measures {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// One run of one cell.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub(crate) struct Measures {
            $($(#[doc = $doc])* pub(crate) $name: f64,)*
        }

        impl Measures {
            /// Names and values, in order.
            pub(crate) fn fields(&self) -> Vec<(&'static str, f64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            fn set(&mut self, name: &str, value: f64) {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => {}
                }
            }
        }
    };
}

measures! {
    /// Length of the window.
    window_s,
    /// Viewers that were there at its end.
    viewers,
    /// CPU time of the server in the window, from the scheduler's nanoseconds of each thread.
    cpu_s,
    /// The same in clock ticks, user and system, from `stat`.
    cpu_user_s,
    cpu_system_s,
    /// Bytes that the viewers received in the window.
    bytes,
    rss_mb,
    rss_peak_mb,
    threads,
    switches_voluntary_per_s,
    switches_forced_per_s,
    join_p50_ms,
    join_p99_ms,
    join_max_ms,
    /// Video age since due.
    age_p50_ms,
    age_p99_ms,
    age_max_ms,
    /// Video age since sent.
    age_since_sent_p50_ms,
    age_since_sent_p99_ms,
    /// Frames of the window that came, and that should have come.
    received,
    expected,
    /// Viewers whose connection ended.
    lost,
    /// Viewers that never saw a keyframe.
    never_joined,
    gaps,
    missing,
    repeated,
    falls,
    checked,
    corrupt,
    strange,
    /// How late the publisher was.
    late_p50_ms,
    late_p99_ms,
    late_max_ms,
    /// Frames that the publisher could not hand over at once.
    blocked,
    /// Share of its core that the generator used.
    generator_busy,
    /// Cores' worth of CPU time on the used cores that was neither server nor generator.
    foreign_busy,
    /// Share of the used cores that the hypervisor took.
    steal,
    /// How far the wall clock was stepped.
    clock_step_ms,
}

impl Measures {
    /// Server CPU microseconds for one viewer and second.
    pub(crate) fn us_per_viewer_s(&self) -> f64 {
        self.cpu_s * 1e6 / (self.viewers * self.window_s)
    }

    /// Server CPU seconds for 10^9 bytes.
    pub(crate) fn s_per_gb(&self) -> f64 {
        self.cpu_s * 1e9 / self.bytes
    }

    /// Reads the lines back.
    pub(crate) fn read(text: &str) -> Self {
        let mut measures = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            measures.set(name, value.parse().unwrap_or(f64::NAN));
        }
        measures
    }

    /// The lines.
    pub(crate) fn write(&self) -> String {
        self.fields().iter().map(|(name, value)| format!("{name} {value}\n")).collect()
    }
}
