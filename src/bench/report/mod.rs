//! A [`Report`](super::model::Report) as people and programs read it.
//!
//! [`table`] is for a terminal, [`html`] one page that opens offline, [`json`] the report itself, [`hlog`] its histograms
//! for the tools of HdrHistogram, [`compare`] two reports beside each other, [`progress`] what is shown meanwhile. None
//! of them knows a scenario by name: they go by subject, metric and parameters.

mod charts;
mod columns;
pub mod compare;
pub mod compare_html;
pub mod format;
pub mod histogram;
pub mod hlog;
pub mod html;
mod html_scenario;
pub mod json;
mod plot;
pub mod progress;
mod resample;
mod series;
pub mod summary;
pub mod table;

#[cfg(test)]
mod compare_tests;
#[cfg(test)]
mod html_tests;
#[cfg(test)]
mod sample;
