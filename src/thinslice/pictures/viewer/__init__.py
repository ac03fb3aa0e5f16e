"""The viewer: the script that is made from `viewer/` (TypeScript), and pages that hold it with volumes."""
