//! A [`Report`](super::model::Report) as people and programs read it.

pub mod compare;
pub mod hlog;
pub mod html;
pub mod json;
pub mod progress;
pub mod table;
