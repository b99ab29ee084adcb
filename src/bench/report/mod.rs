//! A [`Report`](super::model::Report) as people and programs read it.
