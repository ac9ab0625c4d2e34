"""`tenure demo`: kills and pauses workers at random, then checks that nothing was lost or done twice."""
