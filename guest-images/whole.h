/* The customer's own user space, beside the test bed's init. */
#ifndef WHOLE_H
#define WHOLE_H

/* There if the guest is to run the user space of its disk. */
#define WHOLE "/whole"

/*
 * Make the root file system of the machine's disk the root, and leave process 1 to its init. Returns in another process,
 * with that root, and NULL; or in process 1, with nothing changed for good, and what went wrong.
 */
const char *enter_whole(char **argv);

#endif
