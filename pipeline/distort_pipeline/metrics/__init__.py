"""Statistics of images: values in, values out."""
