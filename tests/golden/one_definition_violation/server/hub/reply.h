// Two classes of one name, for the check that must find them.
struct Reply {
  int status = 0;
};
