"""`tenure demo`: kill and pause workers at random, then check that nothing was lost or done twice."""
