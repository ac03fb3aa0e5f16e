"""Networks: tensors in, tensors out. No paths of patients, no HU."""
