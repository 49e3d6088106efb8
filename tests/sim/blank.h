/* blank.h -- makes one cell of an actor's table do nothing, as BERTH_BLANK="actor:state:message" says: a test must fail then. */
#ifndef SIM_BLANK_H
#define SIM_BLANK_H

/* Call first in main(). Without the variable nothing happens; a cell that is not there ends the program. */
void blank_from_environment(void);

#endif
