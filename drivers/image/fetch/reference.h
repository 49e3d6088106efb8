/* reference.h -- names of images as people write them: [host[:port]/]name[:tag][@sha256:...].
 * Grammar: github.com/distribution/reference; docker.io and its library/ are the defaults. */
#ifndef IMAGE_FETCH_REFERENCE_H
#define IMAGE_FETCH_REFERENCE_H

#include "core/err.h"
#include "core/str.h"

struct reference {
	char host[256]; /* with port; docker.io for Docker's */
	char repository[256];
	char tag[129];   /* "latest" if neither a tag nor a digest is named; else may be "" */
	char digest[72]; /* or "" */
};

/* -EINVAL with what is wrong. */
int reference_parse(struct str text, struct reference *ret, struct err *err);

#endif
