"""DICOM files as the world writes them: in folders and archives, parsed within bounds, their pixels as exact HU."""
