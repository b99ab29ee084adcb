//! RTMP: publish and play.
