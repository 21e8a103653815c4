/* librdkafka includes this header although its use of curl is off (WITH_CURL=0). Nothing of it is used. */
