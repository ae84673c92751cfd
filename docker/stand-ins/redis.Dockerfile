FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends redis-server redis-tools && rm -rf /var/lib/apt/lists/*
EXPOSE 6379
# As the official image: reachable from outside the container.
CMD ["redis-server"]
ENTRYPOINT ["/bin/sh", "-c", "exec \"$@\" --bind 0.0.0.0 --protected-mode no", "sh"]
