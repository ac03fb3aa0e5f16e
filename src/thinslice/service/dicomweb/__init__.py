"""DICOMweb: searching, fetching and storing at an archive over HTTP, so that an interrupted transfer goes on."""
