//! The extended Raft paper, a module a section and a test a sentence; `diss_` is Ongaro's dissertation.

mod diss_10_2_1;
mod diss_3_10;
mod diss_4_1;
mod diss_6_2;
mod diss_6_4;
mod diss_6_4_1;
mod diss_6_4_followers;
mod diss_9_6;
mod section_5_1;
mod section_5_2;
mod section_5_3;
mod section_5_4_1;
mod section_5_4_2;
mod section_5_5;
mod section_6;
mod section_7;
mod section_8;
