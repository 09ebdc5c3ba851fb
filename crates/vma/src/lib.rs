//! vma
