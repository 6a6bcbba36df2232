/* Verbs: what the guest's init can do in a child of its own without starting a program. */
#ifndef VERBS_H
#define VERBS_H

/* Run a verb and return its exit status, or -1 if argv[0] names none. */
int run_verb(char **argv);

#endif
